"""One-hot features, and products of them that pick rows of kernels."""

import functools
import math
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from dv3.nets import products
from dv3.nets import xla

LEAST_CLASSES = 32
LEAST_ROWS = 1024
"""From so many on rows are picked; measured, see docs/performance.md."""

LEAST_GROUPS = 8
MOST_CLASSES = 64
"""A draw by classes is vectorised over groups, and each class is code."""

LEAST_SUMS = 4096
"""From so many rows on a kernel's gradient is sums of picked rows.

With fewer, that saves less in a run than it takes to compile.
"""

_ROUNDING = 1e-4  # Of a one-hot element; of a row's sum ten times as much.

_KNOWN = '_dv3_classes'  # On tensors, as Keras keeps masks on them.

_SAME = ('Cast', 'Identity', 'IdentityN', 'StopGradient')
"""Operations that leave one-hot vectors what they are."""


class Classes(NamedTuple):
  """The classes of one-hot groups of C along the last axis of a tensor.

  Attributes:
    index: [..., G] int32, where a group's 1 is; -1 for a group of zeros.
    exact: bool scalar, whether all groups are so; None where that is certain.
    whole: returns the tensor [..., G * C]. Where that is first computed from
      `index`, and nothing else reads the tensor, it need not be stored.
  """

  index: tf.Tensor
  exact: tf.Tensor | None
  whole: Callable[[], tf.Tensor]


class Picked(NamedTuple):
  """A one-hot feature for products that pick rows, see `picked`.

  Attributes:
    value: [..., G * C], groups of C.
    classes: of `value`. Where they are not exact, products are those of
      `value`.
  """

  value: tf.Tensor
  classes: Classes

  def rows(self) -> 'Picked':
    """Merges all leading axes."""
    return Picked(
        _rows(self.value), self.classes._replace(
            index=_rows(self.classes.index),
            whole=lambda: _rows(self.classes.whole())))


def pays(rows: int | None, classes: int) -> bool:
  """Whether picking rows is faster than a product, for what is traced now."""
  return (
      xla.for_cpu() and rows is not None and rows >= LEAST_ROWS
      and classes >= LEAST_CLASSES)


def draws_pay(shape) -> bool:
  """Whether logits [..., G, C] are best drawn with the classes outermost."""
  *lead, groups, classes = shape
  rows = None if None in lead else math.prod(lead)
  return pays(rows, classes) and (
      groups >= LEAST_GROUPS and classes <= MOST_CLASSES)


def pick(value, classes: int) -> 'tf.Tensor | Picked':
  """Finds the picked rows where that makes products faster, else returns value.

  A product of a one-hot vector picks one row of the kernel for each group.
  Under XLA on a CPU that is several times faster than multiplying by zeros.

  Args:
    value: [..., G * C], groups that most likely are one-hot.
    classes: C.
  """
  value = tf.convert_to_tensor(value)
  lead = value.shape[:-1].as_list()
  if None in lead or not pays(math.prod(lead), classes):
    return value
  return Picked(value, _known(value, classes) or _look(value, classes))


def one_hot(index, classes: int):
  """Returns tf.one_hot(index) [..., C] float32, whose classes `pick` knows."""
  value = tf.one_hot(index, classes, dtype=tf.float32)
  remember(value, index[..., None])
  return value


def remember(value, index, exact=None) -> None:
  """Tells `pick` the classes of a tensor, and of what is made of it.

  That is, of the same tensor with another shape, dtype or without gradient, and
  of concatenations.

  Args:
    value: [..., G * C] float32, a symbolic tensor.
    index: [..., G] int32, see `Classes`.
    exact: bool scalar, whether they are one-hot; None if that is certain.
  """
  rebuilt = lambda: tf.reshape(
      tf.one_hot(index, value.shape[-1] // index.shape[-1]), value.shape)
  setattr(value, _KNOWN, Classes(
      index, exact, rebuilt if exact is None else lambda: value))


def picked(x: Picked, kernel, plus=None):
  """Multiplies x.value [..., G * C] by kernel [G * C, o].

  As `products.dense` does. Sums are in float32.

  Args:
    x: the one-hot groups.
    kernel: as above.
    plus: [..., o] that is added to the product while that is in registers; None
      for 0.
  """
  shape = [*x.value.shape[:-1], kernel.shape[1]]
  value, (index, exact, whole) = x.rows()
  count = index.shape[-1]
  size = kernel.shape[0] // count
  if exact is None:
    # True, but XLA does not know it: without the condition below, what reads
    # the sum would add its terms again.
    exact = tf.reduce_all(index[0] < size)

  @tf.custom_gradient
  def product(value, kernel, *plus):
    """Returns the sum, which has the gradients of all."""
    rows = lambda: tf.cast(whole(), kernel.dtype)

    def gradient(dy):
      dx = (products.wide_product(dy, kernel, adj_y=True)
            if products.is_wide(dy)
            else tf.matmul(dy, kernel, transpose_b=True))
      by_rows = lambda: products.matmul(tf.linalg.matrix_transpose(rows()), dy)
      upstream = tf.cast(dy, tf.float32)
      # A sum over rows for each group; those of index -1 count for none.
      by_groups = lambda: tf.cast(tf.concat([
          tf.math.unsorted_segment_sum(upstream, index[:, g], size)
          for g in range(count)], 0), kernel.dtype)
      few = index.shape[0] < LEAST_SUMS
      return tf.cast(dx, value.dtype), (
          by_rows() if few else tf.cond(exact, by_groups, by_rows)), *(
              dy for _ in plus)

    table = tf.reshape(tf.cast(kernel, tf.float32), [count, size, -1])
    there = tf.cast(index >= 0, tf.float32)
    at = tf.maximum(index, 0)
    # Term by term: XLA vectorises this, and not a sum over an axis of one
    # gather.
    by_terms = lambda: tf.cast(_sum([
        *(tf.cast(x, tf.float32) for x in plus),
        *(tf.gather(table[g], at[:, g]) * there[:, g, None]
          for g in range(count))]), kernel.dtype)
    return tf.cond(exact, by_terms, lambda: _sum([
        products.matmul(rows(), kernel), *plus])), gradient

  others = [] if plus is None else [_rows(plus)]
  return tf.reshape(product(value, kernel, *others), shape)


def _sum(terms):
  """Adds tensors of one shape, one after the other."""
  return functools.reduce(lambda a, b: a + b, terms)


def _rows(x):
  """Merges all axes but the last."""
  return tf.reshape(x, [-1, x.shape[-1]])


def _known(value, classes: int) -> Classes | None:
  """Returns the classes of a tensor that is made of remembered ones, or None.

  Args:
    value: [..., G * C].
    classes: C.
  """
  found: Any = getattr(value, _KNOWN, None)
  if found is not None:
    same = found.index.shape[-1] * classes == value.shape[-1]
    return found if same else None
  if not tf.is_symbolic_tensor(value):
    return None
  if value.op.type in _SAME:
    source = value.op.inputs[value.value_index]
    floats = source.dtype.is_floating and value.dtype.is_floating
    return _known(source, classes) if floats else None
  if value.op.type == 'Reshape':
    found = _known(value.op.inputs[0], classes)
    shape = value.shape
    if found is None or not shape.is_fully_defined() or shape[-1] % classes:
      return None
    return found._replace(
        index=tf.reshape(found.index, [*shape[:-1], shape[-1] // classes]),
        whole=lambda: tf.reshape(found.whole(), shape))
  if value.op.type == 'ConcatV2':
    *pieces, axis = value.op.inputs
    axis = tf.get_static_value(axis)
    if any(not piece.shape.is_fully_defined() or piece.shape[-1] % classes
           for piece in pieces):
      return None
    known = [_known(piece, classes) for piece in pieces]
    if not any(known):
      return None
    known = [
        x or _look(piece, classes)
        for x, piece in zip(known, pieces, strict=True)]
    unsure = [x.exact for x in known if x.exact is not None]
    return Classes(
        tf.concat([x.index for x in known], axis),
        functools.reduce(tf.logical_and, unsure) if unsure else None,
        lambda: tf.concat(
            [tf.cast(x.whole(), value.dtype) for x in known], axis))
  return None


def _look(value, classes: int) -> Classes:
  """Finds the classes of groups, and whether they are one-hot."""
  *lead, size = value.shape
  groups = tf.reshape(value, [*lead, size // classes, classes])
  index = tf.argmax(groups, -1, tf.int32)
  found = tf.gather(groups, index, batch_dims=len(lead) + 1)
  there = tf.cast(found > 0.5, tf.float32)
  # Greatest elements of 1 or 0, and as many as all sizes add up to: the rest is
  # 0. The sum is a product, which XLA computes in a tenth of the time.
  sizes = tf.abs(_rows(tf.cast(value, tf.float32)))
  total = tf.matmul(sizes, tf.ones([size, 1]))
  count = tf.reshape(tf.reduce_sum(there, -1), [-1, 1])
  exact = tf.reduce_all(
      tf.abs(tf.cast(found, tf.float32) - there) < _ROUNDING) & tf.reduce_all(
          tf.abs(total - count) < 10 * _ROUNDING)
  return Classes(
      tf.where(found > 0.5, index, -1), exact, lambda: value)
