"""Maps with 2 x 2 pixels side by side, and the kernels that convolve them."""

import numpy as np
import tensorflow as tf

from dv3.nets import linear


def combined(combinations, kernel):
  """Combines the taps of a kernel: one product, no einsum of three factors.

  Args:
    combinations: NumPy [..., m, m], the share of each tap in each result.
    kernel: [m, m, in, out].

  Returns:
    [..., in, out].
  """
  *lead, rows, columns = combinations.shape
  taps = tf.constant(combinations.reshape([-1, rows * columns]))
  sums = tf.matmul(taps, tf.reshape(kernel, [rows * columns, -1]))
  return tf.reshape(sums, [*lead, *kernel.shape[2:]])


def phase_sums(size: int) -> np.ndarray:
  """Returns [2, m, size]: which taps of a kernel meet the same pixel.

  After every pixel was repeated, output row 2 i + a sees input row
  i + floor((a + tap - pad) / 2) at each tap.
  """
  pad = (size - 1) // 2
  offsets = [[(a + tap - pad) // 2 for tap in range(size)] for a in (0, 1)]
  reach = max(abs(x) for row in offsets for x in row)
  sums = np.zeros((2, 2 * reach + 1, size), np.float32)
  for a, row in enumerate(offsets):
    for tap, offset in enumerate(row):
      sums[a, offset + reach, tap] = 1.0
  return sums


def upconv_taps(size: int) -> np.ndarray:
  """Returns [2, m, size]: which tap joins an output row with an input row.

  Output row 2 i + a of a SAME transposed convolution sees input row i + offset
  at one tap or at none.
  """
  pad = (size - 2) // 2
  rows = [[
      (a + pad - size + 1 + tap) / 2 for tap in range(size)] for a in (0, 1)]
  reach = max(abs(x) for row in rows for x in row if x == int(x))
  taps = np.zeros((2, 2 * int(reach) + 1, size), np.float32)
  for a, row in enumerate(rows):
    for tap, offset in enumerate(row):
      if offset == int(offset):
        taps[a, int(offset + reach), tap] = 1.0
  return taps


def folded_taps(size: int) -> np.ndarray:
  """Returns [2, m, size, 2]: which tap joins pixels of two folded rows.

  Output row 2 i + a sees input row 2 (i + offset) + p at one tap or at none.
  """
  pad = (size - 1) // 2
  reach = (pad + 1) // 2
  taps = np.zeros((2, 2 * reach + 1, size, 2), np.float32)
  for a in (0, 1):
    for tap in range(size):
      row = a + tap - pad
      taps[a, row // 2 + reach, tap, row % 2] = 1.0
  return taps


def fold(x):
  """Places 2 x 2 pixels of x [N, Y, X, ch] side by side: [N, Y/2, X/2, 4 ch].

  TensorFlow's `space_to_depth` takes four times as long on a CPU.
  """
  _, rows, columns, depth = x.shape
  x = tf.reshape(x, [-1, rows // 2, 2, columns // 2, 2, depth])
  return tf.reshape(
      tf.transpose(x, [0, 1, 3, 2, 4, 5]),
      [-1, rows // 2, columns // 2, 4 * depth])


def unfold(x):
  """Places the pixels of x [N, Y, X, 4 ch] apart: [N, 2 Y, 2 X, ch]."""
  _, rows, columns, depth = linear.dynamic_shape(x)
  x = tf.reshape(x, [-1, rows, columns, 2, 2, depth // 4])
  return tf.reshape(
      tf.transpose(x, [0, 1, 3, 2, 4, 5]),
      [-1, 2 * rows, 2 * columns, depth // 4])
