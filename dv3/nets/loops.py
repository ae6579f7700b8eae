"""What depends on variables alone leaves the loop that uses it."""

import contextlib
import contextvars
from collections.abc import Callable
from collections.abc import Hashable
from typing import Any

import tensorflow as tf

_OUTSIDE: Any = contextvars.ContextVar('dv3_outside', default=None)


_INSIDE = ('WhileBodyFuncGraph', 'WhileCondFuncGraph', 'CondBranchFuncGraph')
"""Classes of the graphs of loops and branches, which TensorFlow has inside."""


@contextlib.contextmanager
def looping():
  """For loops that are made in this context, `once` computes before them.

  XLA moves nothing out of loops on a GPU, and TensorFlow no variable's cast, so
  that kernels would be cast and turned in every step. For loops without
  gradients alone: the gradient of what is cast before a loop is summed over its
  steps in the dtype that it is cast to. In another such context it changes
  nothing: what leaves an inner loop leaves both.
  """
  if tf.executing_eagerly() or _OUTSIDE.get() is not None:
    yield
    return
  token = _OUTSIDE.set((tf.compat.v1.get_default_graph(), {}))
  try:
    yield
  finally:
    _OUTSIDE.reset(token)


def once(key: Hashable, make: Callable[[], tf.Tensor]) -> tf.Tensor:
  """Returns make(), which in a loop is computed once, before it.

  Not so within a function of its own in the loop, which may be called from
  elsewhere too.

  Args:
    key: what make depends on: references of variables (`Variable.ref`), and
      what is done to them. The same key stands for the same result.
    make: a function that reads variables and nothing that the loop changes.
  """
  outside = _OUTSIDE.get()
  if outside is None or not _is_inside(outside[0]):
    return make()
  graph, made = outside
  if key not in made:
    with graph.as_default():
      made[key] = make()
  return made[key]


def _is_inside(outer) -> bool:
  """Whether what is traced now is in loops and branches of a graph alone."""
  graph = tf.compat.v1.get_default_graph()
  while graph is not outer:
    if type(graph).__name__ not in _INSIDE:
      return False
    graph = graph.outer_graph
  return True


def cast(variable, dtype) -> tf.Tensor:
  """Returns a variable in a dtype; in a loop it is cast once, before it."""
  if variable.dtype.base_dtype == tf.as_dtype(dtype):
    return tf.convert_to_tensor(variable)
  return once(
      (variable.ref(), tf.as_dtype(dtype)),
      lambda: tf.cast(variable, dtype))
