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
    value: [..., G * C], groups of C with at most one element of 1, the rest 0.
    index: [..., G] int32, where that is; -1 for a group of zeros.
  """

  value: tf.Tensor
  index: tf.Tensor

  def rows(self) -> 'Picked':
    """Merges all leading axes."""
    return Picked(*(tf.reshape(x, [-1, x.shape[-1]]) for x in self))


def pick(value, classes: int) -> 'tf.Tensor | Picked':
  """Finds the picked rows where that makes products faster, else returns value.

  A product of a one-hot vector picks one row of the kernel for each group.
  Under XLA on a CPU that is several times faster than multiplying by zeros.

  Args:
    value: [..., G * C], see `Picked`.
    classes: C.
  """
  *lead, size = value.shape
  if (not xla.for_cpu() or classes < LEAST_CLASSES or None in lead
      or math.prod(lead) < LEAST_ROWS):
    return value
  groups = tf.reshape(value, [*lead, size // classes, classes])
  index = tf.argmax(groups, -1, tf.int32)
  found = tf.gather(groups, index, batch_dims=len(lead) + 1)
  return Picked(value, tf.where(found > 0.5, index, -1))


def picked(x: Picked, kernel):
  """Multiplies x.value [..., G * C] by kernel [G * C, o], as `dense` does.

  Sums are in float32.
  """
  shape = [*x.value.shape[:-1], kernel.shape[1]]
  value, index = x.rows()
  count = index.shape[-1]
  classes = kernel.shape[0] // count

  @tf.custom_gradient
  def product(value, kernel):
    """Returns the product, which has the gradient of both."""
    def gradient(dy):
      dx = (_product(dy, kernel, adj_y=True) if _is_wide(dy)
            else tf.matmul(dy, kernel, transpose_b=True))
      if index.shape[0] < LEAST_SUMS:
        value_ = tf.cast(value, kernel.dtype)
        return tf.cast(dx, value.dtype), matmul(
            tf.linalg.matrix_transpose(value_), dy)
      rows = tf.cast(dy, tf.float32)
      # One sum over rows for each group; those of index -1 count for none.
      sums = [
          tf.math.unsorted_segment_sum(rows, index[:, g], classes)
          for g in range(count)]
      return tf.cast(dx, value.dtype), tf.cast(
          tf.concat(sums, 0), kernel.dtype)
    table = tf.reshape(tf.cast(kernel, tf.float32), [count, classes, -1])
    there = tf.cast(index >= 0, tf.float32)
    index_ = tf.maximum(index, 0)
    def total():
      # Term by term: XLA vectorises this, and not a sum over an axis of one
      # gather.
      return functools.reduce(lambda a, b: a + b, [
          tf.gather(table[g], index_[:, g]) * there[:, g, None]
          for g in range(count)])
    # A condition that always holds: XLA would have all that reads the sum add
    # the terms again.
    y = tf.cond(
        index[0, 0] >= -1, total,
        lambda: tf.zeros([index.shape[0], kernel.shape[1]]))
    return tf.cast(y, kernel.dtype), gradient
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
