"""Dense and block-diagonal linear layers."""

import math

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3.nets import initializers
from dv3.nets import loops
from dv3.nets import picking
from dv3.nets import products
from dv3.nets import recall
from dv3.nets import xla


class Linear(keras.layers.Layer):
  """y = x W + b over the last axis.

  The kernel is [in, out] float32; it is cast to the compute dtype once per
  call, or once per loop of calls. With a tuple of units the output's last axis
  is reshaped to it. Where x is a list of tensors, they count as one whose last
  axis they make up, without being concatenated. A tensor may be a
  `picking.Picked`.

  Args:
    units: output size, or a tuple of ints for a shaped output.
    use_bias: whether b exists; it starts at zero.
    scale: factor on the initial standard deviation of W; 0 starts at zero.
    fan: see `initializers.TruncatedNormal`.
    dtype: a Keras dtype policy, 'float32' or 'mixed_bfloat16'.
  """

  def __init__(self, units, *, use_bias=True, scale=1.0, fan='in', **kwargs):
    super().__init__(autocast=False, **kwargs)
    self.units = tuple(units) if isinstance(units, (tuple, list)) else units
    self.use_bias = use_bias
    self.scale = scale
    self.fan = fan

  def build(self, input_shape):
    shaped = isinstance(self.units, tuple)
    size = math.prod(self.units) if shaped else self.units
    self.kernel = self.add_weight(
        'kernel', [input_shape[-1], size], tf.float32,
        initializers.TruncatedNormal(self.scale, self.fan),
        experimental_autocast=False)
    self.bias = self.add_weight(
        'bias', [size], tf.float32, 'zeros',
        experimental_autocast=False) if self.use_bias else None
    super().build(input_shape)

  def call(self, x):
    pieces = pieces_of(x)
    kernel = loops.cast(self.kernel, self.compute_dtype)
    kernels = tf.split(kernel, [values(piece).shape[-1] for piece in pieces])
    y = None
    with recall.paused():
      for piece, rows in sorted(
          zip(pieces, kernels, strict=True),
          key=lambda pair: isinstance(pair[0], picking.Picked)):
        y = piece_product(piece, rows, y)
    y = recall.kept(y)
    if self.bias is not None:
      y += loops.cast(self.bias, self.compute_dtype)
    if not isinstance(self.units, tuple):
      return y
    return tf.reshape(y, [*dynamic_shape(y)[:-1], *self.units])

  def get_config(self):
    return {
        **super().get_config(), 'units': self.units, 'use_bias': self.use_bias,
        'scale': self.scale, 'fan': self.fan}


class Output(Linear):
  """A `Linear` with a bias whose result is float32, of one tensor.

  For the numbers of distributions, which are computed in float32: a bfloat16
  product is not rounded where it is summed in float32 anyway.

  Args:
    units: output size.
    **kwargs: see `Linear`.
  """

  def __init__(self, units: int, **kwargs):
    super().__init__(units, use_bias=True, **kwargs)

  def get_config(self):
    config = super().get_config()
    del config['use_bias']
    return config

  def call(self, x):
    y = dense_product(
        tf.cast(x, self.compute_dtype),
        loops.cast(self.kernel, self.compute_dtype), products.unrounded_dense)
    return tf.cast(y + loops.cast(self.bias, y.dtype), tf.float32)


class Logits(Linear):
  """The logits [..., G, C] of G categoricals over C classes.

  A `Linear` of units (G, C), for one tensor. Where draws by classes pay, see
  `picking.draws_pay`, classes are outermost in memory: the transposition is one
  of the kernel, and its counterpart in `distributions.OneHot` cancels out.
  """

  def call(self, x):
    groups, classes = self.units
    lead = x.shape[:-1]
    if not picking.draws_pay([*lead, groups, classes]):
      with recall.paused():
        y = super().call(x)
      return recall.kept(y)
    turned = lambda x: loops.once(
        (x.ref(), self.compute_dtype, 'turned'),
        lambda: tf.reshape(tf.linalg.matrix_transpose(tf.reshape(
            tf.cast(x, self.compute_dtype), [-1, groups, classes])),
            [-1, classes * groups]))
    with recall.paused():
      y = piece_product(x, turned(self.kernel))
    if self.bias is not None:
      y += turned(self.bias)
    return recall.kept(tf.linalg.matrix_transpose(
        tf.reshape(y, [*lead, classes, groups])))


def _indivisible(blocks, size, what):
  """Returns the error of a block-linear layer whose size does not divide."""
  return errors.UserError(
      f'{blocks} blocks do not divide {size} {what} of a block-linear layer; '
      f'choose another number of blocks, or a size that is a multiple of it')


class BlockLinear(keras.layers.Layer):
  """A block-diagonal linear layer.

  Input and output features are cut into G contiguous pieces; block k maps
  input piece k to output piece k. The kernel is [G, in / G, out / G].

  Args:
    units: output size, divisible by `blocks`.
    blocks: G, which must divide the input size too.
    scale: factor on the initial standard deviation, whose fan-in is the whole
      input (the reference's choice: sqrt(G) below a per-block fan-in).
    dtype: a Keras dtype policy.

  Raises:
    UserError: if `blocks` divides the input or the output size with a rest.

  Source: danijar/dreamerv3 e3f0224, `BlockLinear`.
  """

  def __init__(self, units, blocks, *, scale=1.0, **kwargs):
    super().__init__(autocast=False, **kwargs)
    if units % blocks:
      raise _indivisible(blocks, units, 'outputs')
    self.units = units
    self.blocks = blocks
    self.scale = scale

  def build(self, input_shape):
    size = input_shape[-1]
    if size % self.blocks:
      raise _indivisible(self.blocks, size, 'inputs')
    self.kernel = self.add_weight(
        'kernel', [self.blocks, size // self.blocks, self.units // self.blocks],
        tf.float32, initializers.TruncatedNormal(self.scale),
        experimental_autocast=False)
    self.bias = self.add_weight(
        'bias', [self.units], tf.float32, 'zeros', experimental_autocast=False)
    super().build(input_shape)

  def call(self, x):
    kernel = loops.cast(self.kernel, self.compute_dtype)
    y = block_matmul(tf.cast(x, self.compute_dtype), kernel)
    bias = loops.cast(self.bias, self.compute_dtype)
    return tf.nn.bias_add(y, bias) if y.shape.rank > 1 else y + bias

  def get_config(self):
    return {
        **super().get_config(), 'units': self.units, 'blocks': self.blocks,
        'scale': self.scale}


def block_matmul(x, kernel):
  """Multiplies piece k of x [..., G * i] by kernel[k], kernel [G, i, o].

  The block axis goes outermost: measured 1.6 times faster on CPU than inside.

  Returns:
    [..., G * o] in the dtype of the inputs.
  """
  blocks, size_in, size_out = kernel.shape
  lead = dynamic_shape(x)[:-1]
  x = to_blocks(tf.reshape(x, [-1, blocks * size_in]), blocks)
  y = from_blocks(recall.kept(products.matmul(x, kernel), 1))
  return tf.reshape(y, [*lead, blocks * size_out])


def to_blocks(x, blocks: int):
  """Cuts x [N, G * i] into pieces [G, N, i]."""
  x = tf.reshape(x, [-1, blocks, x.shape[-1] // blocks])
  return tf.transpose(x, [1, 0, 2])


def from_blocks(x):
  """Joins pieces [G, N, i] to [N, G * i].

  For XLA on a CPU a concatenation in place of a transposition: it copies
  memory, and leaves what computed the pieces as it is (see
  docs/performance.md). On a GPU that is code for each piece.
  """
  if xla.for_cpu():
    return tf.concat(tf.unstack(x, axis=0), -1)
  blocks, _, size = x.shape
  return tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, blocks * size])


def dense_product(x, kernel, product=products.dense):
  """Multiplies x [..., i] by kernel [i, o] as one matrix product.

  A batched product over a leading axis would be far slower.
  """
  lead = dynamic_shape(x)[:-1]
  y = product(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
  return tf.reshape(y, [*lead, kernel.shape[1]])


def piece_product(piece, kernel, plus=None):
  """Multiplies an input [..., i], maybe `Picked`, by kernel [i, o].

  Args:
    piece: the input.
    kernel: as above.
    plus: [..., o] to add to the product; None for 0.
  """
  with recall.paused():
    if isinstance(piece, picking.Picked):
      y = picking.picked(piece, kernel, plus)
    else:
      y = dense_product(tf.cast(piece, kernel.dtype), kernel)
      y = y if plus is None else plus + y
  return recall.kept(y)


def pieces_of(x) -> list:
  """Returns the tensors that make up one input, see `Linear`."""
  several = isinstance(x, (list, tuple)) and not isinstance(
      x, picking.Picked)
  return list(x) if several else [x]


def values(piece):
  """Returns the tensor of an input that may be a `picking.Picked`."""
  return piece.value if isinstance(piece, picking.Picked) else piece


def dynamic_shape(x):
  """Returns the shape of x as a list, static numbers where they are known."""
  static = x.shape.as_list()
  if None not in static:
    return static
  dynamic = tf.shape(x)
  return [dynamic[i] if n is None else n for i, n in enumerate(static)]
