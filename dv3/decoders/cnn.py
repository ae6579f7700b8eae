"""The image decoder."""

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


@registry.register('decoder', 'cnn')
class CNNDecoder(part.Part, interfaces.Decoder):
  """Predicts images: a small start map, doubled stage by stage.

    x0 = BlockLinear(deter) as G maps [y, x, ch / G] joined on the channels
    x1 = Linear(Hidden(stoch)) as [y, x, ch]
    x = act(norm(x0 + x1));  each stage: x = act(norm(conv(repeat2(x))))
    image = sigmoid(conv(repeat2(x)))

  A core with other features than `deter` and `stoch` alone feeds the
  concatenation of its features, in the order of `feature_spec`, into x1, and x0
  is left out.

  Args:
    obs_spec: image entries of one size; channels are split between them in
      alphabetical order.
    feature_spec: {name: size} of the core's features.
    units: half the width of the hidden layer of x1.
    depth: channels of stage i are depth * multipliers[i].
    multipliers: as in the encoder, from large to small maps.
    kernel_size: rows and columns of the kernels.
    blocks: G, of the start map.
    strided: transposed stride-2 convolutions in place of repeat and
      convolution.
    norm: see `nets.norms.make`.
    act: activation name.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for an image whose smallest map is not 3 to 16 a side, a number
      below 1, or if `blocks` does not divide the channels of the start map or
      `deter`.

  Source: danijar/dreamerv3 e3f0224, `Decoder`.
  """

  COMPONENT = 'decoder.cnn'

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      units: int = 1024, depth: int = 64,
      multipliers: tuple[int, ...] = (2, 3, 4, 4), kernel_size: int = 5,
      blocks: int = 8, strided: bool = False, norm: str = 'rms',
      act: str = 'silu', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    errors.check_least(1, errors.named(
        self.COMPONENT, units=units, depth=depth, kernel_size=kernel_size,
        blocks=blocks))
    images.check_stages(self.COMPONENT, multipliers)
    self.obs_spec = types.freeze(obs_spec)
    self.keys = tuple(sorted(obs_spec))
    self.feature_sizes = tuple(feature_spec.items())
    self.size = images.padded_size(obs_spec, len(multipliers))
    self.depths = tuple(depth * x for x in multipliers)
    rows, columns = (x // 2 ** len(multipliers) for x in self.size)
    self.smallest = (rows, columns, self.depths[-1])
    self.has_parts = set(feature_spec) == {'deter', 'stoch'}
    if self.has_parts and self.depths[-1] % blocks:
      raise errors.UserError(
          f'decoder.cnn.blocks is {blocks}, which does not divide the '
          f'{self.depths[-1]} channels of the smallest map (depth times the '
          'last of multipliers); choose another')
    self.blocks = blocks
    self.strided = strided
    self.act = mlp.activation(act)
    make_norm = lambda name: norms.make(norm, dtype=dtype, name=name)
    self.start_block = linear.BlockLinear(
        math.prod(self.smallest), blocks, dtype=dtype) if (
            self.has_parts) else None
    self.start_hidden = mlp.Hidden(2 * units, norm=norm, act=act, dtype=dtype)
    self.start_linear = linear.Linear(self.smallest, dtype=dtype)
    self.start_norm = make_norm('start_norm')
    conv = lambda n, name: convolution.Conv2D(
        n, kernel_size, stride=2 if strided else 1, transposed=strided,
        repeated=not strided, dtype=dtype, name=name)
    stages = list(reversed(self.depths[:-1]))
    self.convs = [conv(n, f'conv{i}') for i, n in enumerate(stages)]
    self.norms = [make_norm(f'norm{i}') for i in range(len(stages))]
    self.output_conv = conv(
        sum(images.channels(spec) for _, spec in self.obs_spec), 'output')

  @part.once
  def build(self, input_shape=None):
    sizes = dict(self.feature_sizes)
    if self.has_parts:
      self.start_block.build([None, sizes['deter']])
      self.start_hidden.build([None, sizes['stoch']])
    else:
      self.start_hidden.build([None, sum(sizes.values())])
    self.start_linear.build([None, self.start_hidden.linear.units])
    self.start_norm.build([None, self.depths[-1]])
    depth = self.depths[-1]
    for layer, norm in zip(self.convs, self.norms, strict=True):
      layer.build([None, None, None, depth])
      depth = layer.depth
      norm.build([None, None, None, depth])
    self.output_conv.build([None, None, None, depth])
    super().build(input_shape)

  def multiplications(self):
    """Returns those of an image and 0; see `benchmarking.flops`."""
    start = sum(
        math.prod(layer.kernel.shape) for layer in (
            self.start_block, self.start_hidden.linear, self.start_linear)
        if layer is not None)
    return start + sum(convolution.multiplications(
        [*self.convs, self.output_conv], self.smallest[:2])), 0

  def call(self, features):
    x, lead = self._start(features)
    for layer, norm in zip(self.convs, self.norms, strict=True):
      x = convolution.stage(x, layer, norm, self.act)
    x = self._picture(x)
    return images.split(x, self.obs_spec, lead, distributions.Image)

  def _picture(self, x):
    """Returns the image in (0, 1) of the largest map."""
    output, size = self.output_conv, self.obs_spec[0][1].shape[:2]
    return fusion.fused(
        lambda y, *biases: tf.sigmoid(tf.cast(
            images.crop(output.finish(y, *biases), size), tf.float32)),
        output.product(x), *output.biases)

  def _start(self, features):
    """Returns the start map [N, y, x, ch] and the leading axes."""
    rows, columns, depth = self.smallest
    if not self.has_parts:
      rest = inputs.concat_features(
          features, [name for name, _ in self.feature_sizes])
      x = self.start_linear(self.start_hidden(rest))
      lead = linear.dynamic_shape(rest)[:-1]
    else:
      deter = features['deter']
      lead = linear.dynamic_shape(deter)[:-1]
      x = self.start_block(deter)
      x = tf.reshape(x, [
          -1, self.blocks, rows, columns, depth // self.blocks])
      x = tf.transpose(x, [0, 2, 3, 1, 4])
      x = tf.reshape(x, [-1, *self.smallest])
      y = self.start_linear(self.start_hidden(features['stoch']))
      x += tf.reshape(y, [-1, *self.smallest])
    x = mlp.normed(x, self.start_norm, self.act)
    return tf.reshape(x, [-1, *self.smallest]), lead
