"""Results of one evaluation that a second one of it takes over."""

import contextlib
import contextvars
from typing import Any

import tensorflow as tf

from dv3 import errors

_SCOPE: Any = contextvars.ContextVar('dv3_recall', default=None)


class Kept:
  """What an evaluation kept, in the order of the calls of `kept`."""

  def __init__(self):
    self._results: list[tuple[tf.Tensor, int]] = []

  @contextlib.contextmanager
  def keeping(self):
    """Keeps what `kept` is given in this context."""
    def keep(x, axis):
      self._results.append((x, axis))
      return x
    with _scope(keep):
      yield

  @contextlib.contextmanager
  def recalling(self, number, length: int):
    """Gives `kept` its results of one of several equal parts of the rows.

    Args:
      number: [] int32, of the part.
      length: how many parts there are, one after the other.

    Raises:
      UserError: if `kept` is called otherwise than in `keeping`.
    """
    rest = iter(self._results)
    def recall(x, axis):
      whole, kept_axis = next(rest, (x, None))
      if axis != kept_axis or x.dtype != whole.dtype:
        raise _differs()
      part = x.shape.as_list()
      if None not in (part[axis], whole.shape[axis]):
        part[axis] *= length
      if not whole.shape.is_compatible_with(part):
        raise _differs()
      return _instead(x, _part(whole, axis, number, length))
    with _scope(recall):
      yield
    if next(rest, None) is not None:
      raise _differs()


def kept(x, axis: int = 0):
  """Returns x, or what it was in the evaluation that this one repeats.

  For results that cost more to compute than to read: of products, of sums.
  Gradients are those of x either way. Outside of the contexts of `Kept`, and
  for tensors of a graph within theirs, such as a branch's, it returns x.

  Args:
    x: a tensor.
    axis: of the rows.
  """
  scope = _SCOPE.get()
  if scope is None or getattr(x, 'graph', None) is not scope[1]:
    return x
  return scope[0](x, axis)


@contextlib.contextmanager
def paused():
  """Keeps and recalls nothing in this context, which makes one result."""
  token = _SCOPE.set(None)
  try:
    yield
  finally:
    _SCOPE.reset(token)


@contextlib.contextmanager
def _scope(function):
  graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
  token = _SCOPE.set((function, graph))
  try:
    yield
  finally:
    _SCOPE.reset(token)


@tf.custom_gradient
def _instead(x, value):
  """Returns value, with the gradient of x, which then nobody computes."""
  del x
  return tf.identity(value), lambda upstream: (upstream, None)


def _part(whole, axis, number, length):
  """Returns part `number` of `length` parts of an axis."""
  shape = whole.shape.as_list()
  rows = shape[axis]
  shape[axis: axis + 1] = [length, -1 if rows is None else rows // length]
  # No tf.slice: for XLA that pads all of it against a begin beyond the end.
  return tf.gather(tf.reshape(whole, shape), number, axis=axis)


def _differs():
  return errors.UserError(
      'filter_step of this core makes other products for one step than for '
      'all steps at once, or some whose first axis is not the batch; let no '
      'shape decide which layers it calls, call such layers under '
      'dv3.nets.recall.paused(), or derive from cores.base.RecurrentCore, '
      'which never repeats a step')
