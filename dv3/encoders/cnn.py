"""The image encoder."""

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


@registry.register('encoder', 'cnn')
class CNNEncoder(part.Part, interfaces.Encoder):
  """Encodes images by convolutions that halve them stage by stage.

    x = image / 255 - 0.5
    each stage: x = act(norm(max_pool(conv(x))))       or a stride-2 conv

  Tokens are the smallest map, flattened rows first. Several images of one size
  are concatenated on the channels in alphabetical order. Sizes that the stages
  do not divide are padded with zeros.

  Args:
    obs_spec: image entries, uint8 [Y, X, ch] or [Y, X].
    depth: channels of stage i are depth * multipliers[i].
    multipliers: one a stage.
    kernel_size: rows and columns of the kernels.
    strided: stride-2 convolutions in place of convolution and max pooling.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether convolutions have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for an image whose smallest map is not 3 to 16 a side, or a
      number below 1.

  Source: danijar/dreamerv3 e3f0224, `Encoder`; strided with kernel size 4,
    multipliers 1 2 4 8, LayerNorm and no bias: PyPI dreamerv3 1.5.0.
  """

  COMPONENT = 'encoder.cnn'

  def __init__(
      self, *, obs_spec: types.Specs, depth: int = 64,
      multipliers: tuple[int, ...] = (2, 3, 4, 4), kernel_size: int = 5,
      strided: bool = False, norm: str = 'rms', act: str = 'silu',
      use_bias: bool = True, fan: str = 'in', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    errors.check_least(1, errors.named(
        self.COMPONENT, depth=depth, kernel_size=kernel_size))
    images.check_stages(self.COMPONENT, multipliers)
    self.obs_spec = types.freeze(obs_spec)
    self.size = images.padded_size(obs_spec, len(multipliers))
    self.strided = strided
    self.depths = tuple(depth * x for x in multipliers)
    self.smallest = tuple(x // 2 ** len(multipliers) for x in self.size)
    self.token_size = math.prod(self.smallest) * self.depths[-1]
    self.convs = [
        convolution.Conv2D(
            n, kernel_size, stride=2 if strided else 1, use_bias=use_bias,
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
    counts = convolution.multiplications(
        self.convs, self.size, halved=not self.strided)
    return sum(counts), counts[0]

  def call(self, obs):
    x, lead = images.join(obs, self.obs_spec)
    x = fusion.fused(lambda x: tf.cast(x, self.compute_dtype) / 255 - 0.5, x)
    x = images.pad(x, self.size)
    for conv, norm in zip(self.convs, self.norms, strict=True):
      x = convolution.stage(x, conv, norm, self.act, pool=not self.strided)
    return tf.reshape(x, [*lead, self.token_size])
