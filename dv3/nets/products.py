"""Matrix products in the dtype that is fastest for them on this processor."""

import functools
import math
import pathlib
from typing import NamedTuple

import tensorflow as tf

from dv3.nets import xla

LEAST_CLASSES = 32
LEAST_ROWS = 1024
"""From so many on rows are picked; measured, see docs/performance.md."""

LEAST_SUMS = 4096
"""From so many rows on a kernel's gradient is sums of picked rows.

With fewer, that saves less in a run than it takes to compile.
"""

_ROUNDING = 1e-4  # Of a one-hot element; of a row's sum ten times as much.

_CPU_FLAGS = {'amx_bf16', 'avx512_bf16'}


@functools.cache
def processor_multiplies_bfloat16() -> bool:
  """Whether this x86 processor has instructions for bfloat16 products."""
  try:
    flags = pathlib.Path('/proc/cpuinfo').read_text(errors='replace').split()
  except OSError:
    return False
  return not _CPU_FLAGS.isdisjoint(flags)


def _is_wide(x) -> bool:
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
  return _wide_matmul(a, b) if _is_wide(a) else tf.matmul(a, b)


def dense(x, kernel):
  """Multiplies x [n, i] by kernel [i, o], for rows that are many.

  As `matmul`, with a gradient of the kernel for n far above i and o.
  """
  return _wide_matmul(x, kernel) if _is_wide(x) else _dense(x, kernel)


class Picked(NamedTuple):
  """One-hot groups, and which rows of a kernel they pick.

  Attributes:
    value: [..., G * C], groups of C.
    index: [..., G] int32, where the group's 1 is; -1 for a group of zeros.
    exact: bool scalar, whether all groups are so. Where one is not, products
      are those of `value`.
  """

  value: tf.Tensor
  index: tf.Tensor
  exact: tf.Tensor

  def rows(self) -> 'Picked':
    """Merges all leading axes."""
    value, index = (
        tf.reshape(x, [-1, x.shape[-1]]) for x in (self.value, self.index))
    return Picked(value, index, self.exact)


def pick(value, classes: int) -> 'tf.Tensor | Picked':
  """Finds the picked rows where that makes products faster, else returns value.

  A product of a one-hot vector picks one row of the kernel for each group.
  Under XLA on a CPU that is several times faster than multiplying by zeros.

  Args:
    value: [..., G * C], groups that most likely are one-hot.
    classes: C.
  """
  *lead, size = value.shape
  if (not xla.for_cpu() or classes < LEAST_CLASSES or None in lead
      or math.prod(lead) < LEAST_ROWS):
    return value
  groups = tf.reshape(value, [*lead, size // classes, classes])
  index = tf.argmax(groups, -1, tf.int32)
  found = tf.gather(groups, index, batch_dims=len(lead) + 1)
  there = tf.cast(found > 0.5, tf.float32)
  # Greatest elements of 1 or 0 that add up to the row's sum: the rest is 0.
  # The sum is a product, which XLA computes in a tenth of the time.
  total = tf.matmul(
      tf.reshape(tf.cast(value, tf.float32), [-1, size]), tf.ones([size, 1]))
  count = tf.reshape(tf.reduce_sum(there, -1), [-1, 1])
  exact = tf.reduce_all(
      tf.abs(tf.cast(found, tf.float32) - there) < _ROUNDING) & tf.reduce_all(
          tf.abs(total - count) < 10 * _ROUNDING)
  return Picked(value, tf.where(found > 0.5, index, -1), exact)


def picked(x: Picked, kernel):
  """Multiplies x.value [..., G * C] by kernel [G * C, o], as `dense` does.

  Sums are in float32.
  """
  shape = [*x.value.shape[:-1], kernel.shape[1]]
  value, index, exact = x.rows()
  count = index.shape[-1]
  classes = kernel.shape[0] // count

  @tf.custom_gradient
  def product(value, kernel):
    """Returns the product, which has the gradient of both."""
    rows = tf.cast(value, kernel.dtype)

    def gradient(dy):
      dx = (_product(dy, kernel, adj_y=True) if _is_wide(dy)
            else tf.matmul(dy, kernel, transpose_b=True))
      by_rows = lambda: matmul(tf.linalg.matrix_transpose(rows), dy)
      upstream = tf.cast(dy, tf.float32)
      # A sum over rows for each group; those of index -1 count for none.
      by_groups = lambda: tf.cast(tf.concat([
          tf.math.unsorted_segment_sum(upstream, index[:, g], classes)
          for g in range(count)], 0), kernel.dtype)
      few = index.shape[0] < LEAST_SUMS
      return tf.cast(dx, value.dtype), (
          by_rows() if few else tf.cond(exact, by_groups, by_rows))

    table = tf.reshape(tf.cast(kernel, tf.float32), [count, classes, -1])
    there = tf.cast(index >= 0, tf.float32)
    at = tf.maximum(index, 0)
    # Term by term: XLA vectorises this, and not a sum over an axis of one
    # gather.
    by_terms = lambda: tf.cast(functools.reduce(lambda a, b: a + b, [
        tf.gather(table[g], at[:, g]) * there[:, g, None]
        for g in range(count)]), kernel.dtype)
    # The condition also keeps what reads the sum from adding the terms again.
    return tf.cond(exact, by_terms, lambda: matmul(rows, kernel)), gradient
  return tf.reshape(product(value, kernel), shape)


@tf.custom_gradient
def _dense(x, kernel):
  """Multiplies x [n, i] by kernel [i, o].

  The kernel's gradient transposes the narrower of the two factors: measured 2.2
  times faster under XLA on the CPU, 1.5 times in graphs, for i = 8 o.
  """
  def gradient(dy):
    dx = tf.matmul(dy, kernel, transpose_b=True)
    rows = x.shape[0]
    if kernel.shape[1] >= kernel.shape[0] or rows is None or rows % 2:
      return dx, tf.matmul(x, dy, transpose_a=True)
    # In two halves, since XLA would undo the exchange of the factors of one.
    half = lambda x: tf.reshape(x, [2, rows // 2, x.shape[1]])
    halves = tf.matmul(half(dy), half(x), transpose_a=True)
    return dx, tf.transpose(tf.reduce_sum(halves, 0))
  return tf.matmul(x, kernel), gradient


@tf.custom_gradient
def _wide_matmul(a, b):
  def gradient(dy):
    # The narrower factor is transposed; the product needs its rows' memory.
    if a.shape[-1] <= b.shape[-1]:
      db = _product(_transposed(a), dy)
    else:
      db = tf.linalg.matrix_transpose(_product(_transposed(dy), a))
    return _product(dy, b, adj_y=True), db
  return _product(a, b), gradient


def _product(a, b, **kwargs):
  """Multiplies with sums in float32.

  The rounding stands next to the product always: XLA would fuse a sum over the
  float32 product into it, and its library then aborts (TensorFlow 2.21).
  """
  return tf.cast(
      tf.raw_ops.BatchMatMulV3(x=a, y=b, Tout=tf.float32, **kwargs),
      tf.bfloat16)


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
