"""The image encoder of the 2021 form."""

import math

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import convolution
from dv3.nets import fusion
from dv3.nets import images
from dv3.nets import mlp
from dv3.nets import norms
from dv3.nets import part


@registry.register('encoder', 'valid_cnn')
class ValidCNNEncoder(part.Part, interfaces.Encoder):
  """Encodes images by strided convolutions without padding.

    x = image / 255 - 0.5;   each stage: x = act(norm(conv(x))), stride 2

  There are as many stages as the image's smaller side allows; 64 pixels give
  maps of 31, 14, 6 and 2.

  Args:
    obs_spec: image entries of one size, uint8 [Y, X, ch] or [Y, X].
    depth: channels of stage i are depth * 2^i.
    kernel_size: rows and columns of the kernels.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether convolutions have a bias.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for images that differ in size, or are below 10 pixels a side;
      a depth below 1, or kernels below 2 pixels or larger than the images.

  Source: Hafner et al. 2021 (DreamerV2), appendix; danijar/dreamerv2 0216d33,
    `Encoder`.
  """

  COMPONENT = 'encoder.valid_cnn'

  def __init__(
      self, *, obs_spec: types.Specs, depth: int = 48, kernel_size: int = 4,
      norm: str = 'none', act: str = 'elu', use_bias: bool = True,
      fan: str = 'average', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    errors.check_least(1, errors.named(self.COMPONENT, depth=depth))
    self.obs_spec = types.freeze(obs_spec)
    self.size = images.common_size(obs_spec, 10)
    errors.check_within(2, min(self.size), errors.named(
        self.COMPONENT, kernel_size=kernel_size))
    sizes = images.valid_sizes(self.size, kernel_size)
    self.depths = tuple(depth * 2 ** i for i in range(len(sizes)))
    self.token_size = math.prod(sizes[-1]) * self.depths[-1]
    self.convs = [
        convolution.Conv2D(
            n, kernel_size, stride=2, padding='VALID', use_bias=use_bias,
            fan=fan, dtype=dtype, name=f'conv{i}')
        for i, n in enumerate(self.depths)]
    self.norms = [
        norms.make(norm, dtype=dtype, name=f'norm{i}')
        for i in range(len(self.depths))]
    self.act = mlp.activation(act)

  @part.once
  def build(self, input_shape=None):
    depth = sum(images.channels(spec) for _, spec in self.obs_spec)
    for conv, norm in zip(self.convs, self.norms, strict=True):
      conv.build([None, None, None, depth])
      depth = conv.depth
      norm.build([None, None, None, depth])
    super().build(input_shape)

  def multiplications(self):
    """Returns an image's and its first layer's; see `benchmarking.flops`."""
    counts = convolution.multiplications(self.convs, self.size)
    return sum(counts), counts[0]

  def call(self, obs):
    x, lead = images.join(obs, self.obs_spec)
    x = fusion.fused(lambda x: tf.cast(x, self.compute_dtype) / 255 - 0.5, x)
    for conv, norm in zip(self.convs, self.norms, strict=True):
      x = convolution.stage(x, conv, norm, self.act)
    return tf.reshape(x, [*lead, self.token_size])
