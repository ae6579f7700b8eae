"""Matrix products in the dtype that is fastest for them on this processor."""

import functools
import pathlib

import tensorflow as tf

from dv3.nets import xla

_MANY_ROWS = 2048

_CPU_FLAGS = {'amx_bf16', 'avx512_bf16'}


@functools.cache
def processor_multiplies_bfloat16() -> bool:
  """Whether this x86 processor has instructions for bfloat16 products."""
  try:
    flags = pathlib.Path('/proc/cpuinfo').read_text(errors='replace').split()
  except OSError:
    return False
  return not _CPU_FLAGS.isdisjoint(flags)


def is_wide(x) -> bool:
  """Whether products of x are better summed in float32, then rounded.

  XLA on a CPU casts a product of bfloat16 to bfloat16 up to float32 first, and
  hands one to float32 to a library that uses the processor's instructions for
  it, at 3 to 4 times the speed. There is no operation for it outside of XLA.
  """
  return (
      x.dtype == tf.bfloat16 and xla.for_cpu()
      and processor_multiplies_bfloat16())


def matmul(a, b):
  """Multiplies a [..., n, i] by b [..., i, o] with the same leading axes.

  Returns:
    [..., n, o] in the dtype of both.
  """
  return _wide_matmul(a, b) if is_wide(a) else tf.matmul(a, b)


def unrounded_matmul(a, b):
  """As `matmul`, in float32 where products are summed in it anyway.

  What reads it must be elementwise, such as a bias: XLA's library aborts where
  a sum reads it directly, see `wide_product`.
  """
  return _unrounded(a, b) if is_wide(a) else tf.matmul(a, b)


def dense(x, kernel):
  """Multiplies x [n, i] by kernel [i, o], for rows that are many.

  As `matmul`, with a gradient of the kernel for n far above i and o.
  """
  return _wide_matmul(x, kernel) if is_wide(x) else _dense(x, kernel)


def unrounded_dense(x, kernel):
  """As `dense`, with the result of `unrounded_matmul`."""
  return _unrounded(x, kernel) if is_wide(x) else _dense(x, kernel)


@tf.custom_gradient
def _dense(x, kernel):
  """Multiplies x [n, i] by kernel [i, o].

  The kernel's gradient transposes the narrower of the two factors: measured 2.2
  times faster under XLA on the CPU, 1.5 times in graphs, for i = 8 o; of few
  rows only then.
  """
  def gradient(dy):
    dx = tf.matmul(dy, kernel, transpose_b=True)
    rows = x.shape[0] or 1  # 1 where it is not known.
    size_in, size_out = kernel.shape
    pays = not rows % 2 and size_in > size_out and (
        rows >= _MANY_ROWS or size_in >= 8 * size_out)
    if not pays:
      return dx, tf.matmul(x, dy, transpose_a=True)
    # In two halves, since XLA would undo the exchange of the factors of one.
    half = lambda x: tf.reshape(x, [2, rows // 2, x.shape[1]])
    halves = tf.matmul(half(dy), half(x), transpose_a=True)
    return dx, tf.transpose(tf.reduce_sum(halves, 0))
  return tf.matmul(x, kernel), gradient


@tf.custom_gradient
def _wide_matmul(a, b):
  return wide_product(a, b), functools.partial(_wide_gradients, a, b)


@tf.custom_gradient
def _unrounded(a, b):
  return _float32_product(a, b), lambda dy: _wide_gradients(
      a, b, tf.cast(dy, a.dtype))


def _wide_gradients(a, b, dy):
  """Returns the gradients of a and b, where the product's is dy."""
  # The narrower factor is transposed; the product needs its rows' memory.
  if a.shape[-1] <= b.shape[-1]:
    db = wide_product(_transposed(a), dy)
  else:
    db = tf.linalg.matrix_transpose(wide_product(_transposed(dy), a))
  return wide_product(dy, b, adj_y=True), db


def wide_product(a, b, **kwargs):
  """Multiplies with sums in float32.

  The rounding stands next to the product always: XLA would fuse a sum over the
  float32 product into it, and its library then aborts (TensorFlow 2.21).
  """
  return tf.cast(_float32_product(a, b, **kwargs), tf.bfloat16)


def _float32_product(a, b, **kwargs):
  return tf.raw_ops.BatchMatMulV3(x=a, y=b, Tout=tf.float32, **kwargs)


def _transposed(x):
  """Returns x [..., n, m] as [..., m, n] in memory, for even n.

  In two halves: XLA would make one transposition a property of the product,
  which the library does not have for the first factor.
  """
  rows = x.shape[-2]
  if rows is None or rows % 2:
    return tf.linalg.matrix_transpose(x)
  return tf.concat([
      tf.linalg.matrix_transpose(half) for half in tf.split(x, 2, -2)], -1)
