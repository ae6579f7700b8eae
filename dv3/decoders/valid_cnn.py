"""The image decoder of the 2021 form."""

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


@registry.register('decoder', 'valid_cnn')
class ValidCNNDecoder(part.Part, interfaces.Decoder):
  """Predicts images by transposed convolutions without padding.

    x = Linear(features) as [1, 1, 32 depth]
    each stage but the last: x = act(norm(upconv(x)))
    image / 255 - 0.5 ~ N(upconv(x), 1)                       [..., y, x, ch]

  The published kernels 5 5 6 6 lead from one pixel to 64. For other sizes
  there are as many stages as needed, with kernels of 5 and then 6 pixels; what
  is too much is cropped around the centre.

  Args:
    obs_spec: image entries of one size; channels are split between them in
      alphabetical order.
    feature_spec: {name: size} of the core's features.
    depth: channels of the last stage but one; doubled towards the start.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether convolutions have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for images that differ in size, or are below 10 pixels a side;
      or a depth below 1.

  Source: Hafner et al. 2021 (DreamerV2), appendix; danijar/dreamerv2 0216d33,
    `Decoder`.
  """

  COMPONENT = 'decoder.valid_cnn'

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      depth: int = 48, norm: str = 'none', act: str = 'elu',
      use_bias: bool = True, fan: str = 'average', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    errors.check_least(1, errors.named(self.COMPONENT, depth=depth))
    self.obs_spec = types.freeze(obs_spec)
    self.keys = tuple(sorted(obs_spec))
    self.feature_names = tuple(feature_spec)
    self.input_size = sum(feature_spec.values())
    self.size = images.common_size(obs_spec, 10)
    kernels = images.growing_kernels(max(self.size))
    self.act = mlp.activation(act)
    self.start = linear.Linear(32 * depth, fan=fan, dtype=dtype, name='start')
    upconv = lambda n, kernel, bias, name: convolution.Upconv2D(
        n, kernel, padding='VALID', use_bias=bias, fan=fan, dtype=dtype,
        name=name)
    count = len(kernels) - 1
    self.convs = [
        upconv(depth * 2 ** (count - 1 - i), kernels[i], use_bias, f'conv{i}')
        for i in range(count)]
    self.norms = [
        norms.make(norm, dtype=dtype, name=f'norm{i}') for i in range(count)]
    self.output_conv = upconv(
        sum(images.channels(spec) for _, spec in self.obs_spec), kernels[-1],
        True, 'output')

  @part.once
  def build(self, input_shape=None):
    self.start.build([None, self.input_size])
    depth = self.start.units
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
        [*self.convs, self.output_conv], (1, 1))), 0

  def call(self, features):
    joint = inputs.concat_features(features, self.feature_names)
    x = tf.reshape(self.start(joint), [-1, 1, 1, self.start.units])
    for layer, norm in zip(self.convs, self.norms, strict=True):
      x = convolution.stage(x, layer, norm, self.act)
    output = self.output_conv
    x = fusion.fused(
        lambda y, *biases: tf.cast(
            images.crop(output.finish(y, *biases), self.size), tf.float32),
        output.product(x), *output.biases)
    lead = linear.dynamic_shape(joint)[:-1]
    return images.split(x, self.obs_spec, lead, distributions.UnitNormalImage)
