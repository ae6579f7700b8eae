"""The image decoder of the 2023 form."""

import math

import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import convolution
from dv3.nets import fusion
from dv3.nets import images
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import mlp
from dv3.nets import norms
from dv3.nets import part


@registry.register('decoder', 'transposed_cnn')
class TransposedCNNDecoder(part.Part, interfaces.Decoder):
  """Predicts images by transposed convolutions.

    x = Linear(features) as [y, x, ch]
    each stage but the last: x = act(norm(upconv(x)))
    image = upconv(x) + 0.5

  There is no sigmoid: the mean may leave [0, 1].

  Args:
    obs_spec: image entries of one size; channels are split between them in
      alphabetical order.
    feature_spec: {name: size} of the core's features.
    depth: channels of stage i are depth * multipliers[i].
    multipliers: as in the encoder, from large to small maps.
    kernel_size: rows and columns of the kernels.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether convolutions have a bias before their norm; the first
      and the last layer always have one.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for an image whose smallest map is not 3 to 16 a side, or a
      number below 1.

  Source: Hafner et al. 2023 (arXiv v1), appendix B; PyPI dreamerv3 1.5.0,
    `ImageDecoderResnet` without residual blocks.
  """

  COMPONENT = 'decoder.transposed_cnn'

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      depth: int = 96, multipliers: tuple[int, ...] = (1, 2, 4, 8),
      kernel_size: int = 4, norm: str = 'layer', act: str = 'silu',
      use_bias: bool = False, fan: str = 'average', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    errors.check_least(1, errors.named(
        self.COMPONENT, depth=depth, kernel_size=kernel_size))
    images.check_stages(self.COMPONENT, multipliers)
    self.obs_spec = types.freeze(obs_spec)
    self.keys = tuple(sorted(obs_spec))
    self.feature_names = tuple(feature_spec)
    self.input_size = sum(feature_spec.values())
    size = images.padded_size(obs_spec, len(multipliers))
    depths = [depth * x for x in multipliers]
    rows, columns = (x // 2 ** len(multipliers) for x in size)
    self.smallest = (rows, columns, depths[-1])
    self.act = mlp.activation(act)
    self.start = linear.Linear(
        math.prod(self.smallest), fan=fan, dtype=dtype, name='start')
    upconv = lambda n, bias, name: convolution.Upconv2D(
        n, kernel_size, use_bias=bias, fan=fan, dtype=dtype, name=name)
    stages = depths[-2::-1]
    self.convs = [
        upconv(n, use_bias, f'conv{i}') for i, n in enumerate(stages)]
    self.norms = [
        norms.make(norm, dtype=dtype, name=f'norm{i}')
        for i in range(len(stages))]
    self.output_conv = upconv(
        sum(images.channels(spec) for _, spec in self.obs_spec), True,
        'output')

  @part.once
  def build(self, input_shape=None):
    self.start.build([None, self.input_size])
    depth = self.smallest[-1]
    for layer, norm in zip(self.convs, self.norms, strict=True):
      layer.build([None, None, None, depth])
      depth = layer.depth
      norm.build([None, None, None, depth])
    self.output_conv.build([None, None, None, depth])
    super().build(input_shape)

  def multiplications(self):
    """Returns those of an image and 0; see `benchmarking.flops`."""
    start = math.prod(self.start.kernel.shape)
    return start + sum(convolution.multiplications(
        [*self.convs, self.output_conv], self.smallest[:2])), 0

  def call(self, features):
    joint = inputs.concat_features(features, self.feature_names)
    x = tf.reshape(self.start(joint), [-1, *self.smallest])
    for layer, norm in zip(self.convs, self.norms, strict=True):
      x = convolution.stage(x, layer, norm, self.act)
    output, size = self.output_conv, self.obs_spec[0][1].shape[:2]
    x = fusion.fused(
        lambda y, *biases: 0.5 + tf.cast(
            images.crop(output.finish(y, *biases), size), tf.float32),
        output.product(x), *output.biases)
    lead = linear.dynamic_shape(joint)[:-1]
    return images.split(x, self.obs_spec, lead, distributions.Image)
