"""Convolutions of the published encoders and decoders; NHWC, kernels HWIO."""

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3.nets import folding
from dv3.nets import fusion
from dv3.nets import initializers
from dv3.nets import linear
from dv3.nets import pooling
from dv3.nets import xla

_FEW_CHANNELS = 12
_IMAGE_CHANNELS = 4


class Conv2D(keras.layers.Layer):
  """A convolution, optionally strided or transposed by two.

  Args:
    depth: output channels.
    kernel_size: rows and columns of the kernel.
    stride: 1 or more.
    padding: 'SAME' in TensorFlow's sense, or 'VALID'.
    repeated: if true, every input pixel is first repeated in rows and
      columns. It is computed as one convolution of the small image with a
      kernel of sums for each of the four phases, and a rearrangement: 36
      multiplications in place of 100 for a kernel of 5.
    transposed: if true, the input pixels are first placed at the odd
      positions (1, 3, 5, ...) of a zero image of `stride` (2) times the size,
      then a stride-1 SAME convolution follows, without flipping the kernel.
    use_bias: whether a bias exists; it starts at zero.
    scale: factor on the initial standard deviation.
    fan: see `initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for a combination that is not one of these.

  Source: danijar/dreamerv3 e3f0224, `Conv2D`.
  """

  def __init__(
      self, depth, kernel_size, *, stride=1, padding='SAME', repeated=False,
      transposed=False, use_bias=True, scale=1.0, fan='in', **kwargs):
    super().__init__(autocast=False, **kwargs)
    if repeated and (stride != 1 or transposed or kernel_size % 2 == 0):
      raise errors.UserError(
          f'a repeated convolution of kernel_size {kernel_size}, stride '
          f'{stride} cannot be; it takes an odd kernel_size, stride 1 and no '
          'transposition (an even kernel_size needs decoder.cnn.strided)')
    if transposed and stride != 2:
      raise errors.UserError(
          f'a transposed convolution has stride {stride}; it takes 2')
    self.options = {
        'depth': depth, 'kernel_size': kernel_size, 'stride': stride,
        'padding': padding, 'repeated': repeated, 'transposed': transposed,
        'use_bias': use_bias, 'scale': scale, 'fan': fan}
    self.depth = depth
    self.stride = stride
    self.padding = padding
    self.repeated = repeated
    self.transposed = transposed

  def build(self, input_shape):
    size = self.options['kernel_size']
    self.kernel = self.add_weight(
        'kernel', [size, size, input_shape[-1], self.depth], tf.float32,
        initializers.TruncatedNormal(
            self.options['scale'], self.options['fan']),
        experimental_autocast=False)
    self.bias = self.add_weight(
        'bias', [self.depth], tf.float32, 'zeros',
        experimental_autocast=False) if self.options['use_bias'] else None
    super().build(input_shape)

  def call(self, x):
    return self.finish(self.product(x), *self.biases)

  @property
  def biases(self):
    """The bias, if there is one, as a list."""
    return [] if self.bias is None else [self.bias]

  def product(self, x):
    """Returns the convolution alone, for `finish`."""
    x = tf.cast(x, self.compute_dtype)
    kernel = tf.convert_to_tensor(self.kernel)
    stride = self.stride
    if self.transposed:
      x = _spread(x)
      stride = 1
    if self.repeated:
      sums = folding.phase_sums(kernel.shape[0])
      kernel = folding.combined(
          np.einsum('aiu,bjv->ijabuv', sums, sums), kernel)
      kernel = tf.transpose(kernel, [0, 1, 4, 2, 3, 5])
      kernel = tf.reshape(kernel, [*kernel.shape[:3], -1])
    return tf.nn.conv2d(
        x, tf.cast(kernel, self.compute_dtype), stride, self.padding)

  def applications(self, rows, columns):
    """Returns how often the kernel is applied, and the new map's size.

    Pixels that are only placed between others, as zeros, do not count; the
    border counts whole.
    """
    size, stride = self.options['kernel_size'], self.stride
    if self.transposed:
      return rows * columns, (2 * rows, 2 * columns)
    if self.repeated:
      rows, columns = 2 * rows, 2 * columns
    elif self.padding == 'SAME':
      rows, columns = -(-rows // stride), -(-columns // stride)
    else:
      rows, columns = (
          (n - size) // stride + 1 for n in (rows, columns))
    return rows * columns, (rows, columns)

  @property
  def foldable(self):
    """Whether `folded_product` exists and is the faster one.

    Kernels for four pixels multiply 1.4 times as much and fill vectors better,
    and maxima need no pixels of other rows. On a CPU it pays with few output
    channels: measured for 3 to 8 and 8 to 12, and not for 12 to 16. On a GPU
    with those of an image: its products take input channels by fours or eights.
    """
    few = (self.kernel.shape[2] <= _IMAGE_CHANNELS if xla.for_accelerator()
           else self.depth <= _FEW_CHANNELS)
    return (
        few and self.stride == 1 and self.padding == 'SAME'
        and not self.repeated and not self.transposed
        and self.options['kernel_size'] % 2 == 1)

  def folded_product(self, x):
    """Returns `product(x)` with 2 x 2 pixels side by side, for even Y and X.

    Args:
      x: [N, Y, X, in].

    Returns:
      [N, Y / 2, X / 2, 4, ch].
    """
    x = fusion.fused(folding.fold, tf.cast(x, self.compute_dtype))
    kernel = tf.convert_to_tensor(self.kernel)
    taps = folding.folded_taps(kernel.shape[0])
    kernel = folding.combined(
        np.einsum('aitp,bjuq->ijpqabtu', taps, taps), kernel)
    kernel = tf.transpose(kernel, [0, 1, 2, 3, 6, 4, 5, 7])
    size, channels = kernel.shape[0], x.shape[-1]
    y = tf.nn.conv2d(x, tf.cast(
        tf.reshape(kernel, [size, size, channels, 4 * self.depth]),
        self.compute_dtype), 1, 'SAME')
    return tf.reshape(y, [*linear.dynamic_shape(y)[:3], 4, self.depth])

  def finish(self, y, *biases):
    """Rearranges a `product` where pixels were repeated, and adds the bias."""
    if self.repeated:
      y = tf.nn.depth_to_space(y, 2)
    return _biased(y, biases)

  def get_config(self):
    return {**super().get_config(), **self.options}


class Upconv2D(keras.layers.Layer):
  """A transposed convolution of stride 2, as in the 2023 and 2021 decoders.

  Input pixels are placed at the positions 0, 2, 4, ... of a zero image of
  2 n - 1 rows, which is padded (SAME: to 2 n rows of output; VALID: with
  kernel_size - 1 zeros around, to 2 (n - 1) + kernel_size) and convolved
  without flipping the kernel.

  Args:
    depth: output channels.
    kernel_size: rows and columns of the kernel.
    padding: 'SAME' or 'VALID'.
    use_bias: whether a bias exists; it starts at zero.
    fan: see `initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Source: PyPI dreamerv3 1.5.0, `Conv2D`; danijar/dreamerv2 0216d33, `Decoder`.
  """

  def __init__(
      self, depth, kernel_size, *, padding='SAME', use_bias=True,
      fan='average', **kwargs):
    super().__init__(autocast=False, **kwargs)
    self.options = {
        'depth': depth, 'kernel_size': kernel_size, 'padding': padding,
        'use_bias': use_bias, 'fan': fan}
    self.depth = depth

  def build(self, input_shape):
    size = self.options['kernel_size']
    self.kernel = self.add_weight(
        'kernel', [size, size, input_shape[-1], self.depth], tf.float32,
        initializers.TruncatedNormal(1.0, self.options['fan']),
        experimental_autocast=False)
    self.bias = self.add_weight(
        'bias', [self.depth], tf.float32, 'zeros',
        experimental_autocast=False) if self.options['use_bias'] else None
    super().build(input_shape)

  def call(self, x):
    return self.finish(self.product(x), *self.biases)

  @property
  def biases(self):
    """The bias, if there is one, as a list."""
    return [] if self.bias is None else [self.bias]

  @property
  def foldable(self):
    """Whether to compute 2 x 2 output pixels side by side.

    A CPU does so in half of the time where an image of few channels comes out,
    though kernels for four pixels may multiply 2.25 times as much.
    """
    return (
        self.depth <= _IMAGE_CHANNELS and not xla.for_accelerator()
        and self.options['padding'] == 'SAME'
        and self.options['kernel_size'] > 1)

  def product(self, x):
    """Returns the convolution alone, for `finish`."""
    x = tf.cast(x, self.compute_dtype)
    kernel = tf.cast(self.kernel, self.compute_dtype)
    if self.foldable:
      return _unfolded_upconv(x, kernel)
    # conv2d_transpose flips the kernel and takes it as [h, w, out, in].
    kernel = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    batch, rows, columns, _ = linear.dynamic_shape(x)
    return tf.nn.conv2d_transpose(
        x, kernel, [batch, self._grown(rows), self._grown(columns), self.depth],
        2, self.options['padding'])

  def _grown(self, size):
    """Returns the output's rows or columns."""
    if self.options['padding'] == 'SAME':
      return 2 * size
    return 2 * (size - 1) + self.options['kernel_size']

  def applications(self, rows, columns):
    """Returns how often the kernel is applied, and the new map's size.

    Once an input pixel: the zeros between them do not count.
    """
    return rows * columns, (self._grown(rows), self._grown(columns))

  def finish(self, y, *biases):
    """Adds the bias to a `product`."""
    return _biased(y, biases)

  def get_config(self):
    return {**super().get_config(), **self.options}


@tf.custom_gradient
def _unfolded_upconv(x, kernel):
  """Returns `Upconv2D.product`, SAME, by way of 2 x 2 pixels side by side.

  The gradients are those of the transposed convolution, which has fewer
  multiplications and no such need.

  Args:
    x: [N, Y, X, in].
    kernel: [m, m, in, out].

  Returns:
    [N, 2 Y, 2 X, out].
  """
  size, _, depth_in, depth = kernel.shape
  taps = folding.upconv_taps(size)
  folded = folding.combined(
      np.einsum('ait,bju->ijabtu', taps, taps), tf.cast(kernel, tf.float32))
  folded = tf.transpose(folded, [0, 1, 4, 2, 3, 5])
  folded = tf.cast(
      tf.reshape(folded, [*folded.shape[:2], depth_in, 4 * depth]), x.dtype)
  y = fusion.fused(folding.unfold, tf.nn.conv2d(x, folded, 1, 'SAME'))
  def gradient(dy):
    flipped = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    dkernel = tf.raw_ops.Conv2DBackpropFilter(
        input=dy, filter_sizes=flipped.shape, out_backprop=x,
        strides=[1, 2, 2, 1], padding='SAME')
    return (
        tf.nn.conv2d(dy, flipped, 2, 'SAME'),
        tf.reverse(tf.transpose(dkernel, [0, 1, 3, 2]), [0, 1]))
  return y, gradient


def stage(x, conv, norm, act, pool: bool = False):
  """Returns act(norm(conv(x))), with 2 x 2 maxima after the convolution.

  Args:
    x: [N, Y, X, ch].
    conv: a built `Conv2D` or `Upconv2D`.
    norm: a built layer of `norms`.
    act: an elementwise function.
    pool: whether to take maxima.
  """
  biases = conv.biases
  folded = pool and conv.foldable
  y = conv.folded_product(x) if folded else conv.product(x)
  if pool:  # Before the bias, which no maximum depends on.
    y = pooling.folded_max_pool2(y) if folded else pooling.max_pool2(y)
  def rest(y, *weights):
    # In float32, and rounded once, at the end.
    y = conv.finish(tf.cast(y, tf.float32), *weights[:len(biases)])
    rows = act(norm.compute(_rows(y), *weights[len(biases):]))
    return tf.reshape(tf.cast(rows, conv.compute_dtype), tf.shape(y))
  return fusion.fused(rest, y, *biases, *norm.variables)


def multiplications(layers, size: tuple[int, int], halved: bool = False):
  """Returns the multiplications of convolutions in turn, for one image.

  Args:
    layers: built `Conv2D` and `Upconv2D`.
    size: rows and columns of the first one's input.
    halved: whether 2 x 2 maxima follow each.

  Returns:
    List of int, one a layer.
  """
  counts = []
  for layer in layers:
    times, size = layer.applications(*size)
    counts.append(times * math.prod(layer.kernel.shape))
    if halved:
      size = size[0] // 2, size[1] // 2
  return counts


def _rows(x):
  """Returns x [..., ch] as a matrix.

  Sums for the gradients of weights [ch] are twice as fast over its rows as over
  three axes, under XLA on a CPU.
  """
  return tf.reshape(x, [-1, x.shape[-1]])


def _biased(x, biases):
  """Adds biases [ch] to x [..., ch]."""
  for bias in biases:
    x = tf.reshape(_rows(x) + tf.cast(bias, x.dtype), tf.shape(x))
  return x


def _spread(x):
  """Places the pixels of x [N, Y, X, ch] at odd positions of a zero image."""
  _, rows, columns, depth = x.shape
  x = tf.reshape(x, [-1, rows, 1, columns, 1, depth])
  x = tf.pad(x, [[0, 0], [0, 0], [1, 0], [0, 0], [1, 0], [0, 0]])
  return tf.reshape(x, [-1, 2 * rows, 2 * columns, depth])
