"""What depends on variables alone leaves the loop that uses it."""

import contextlib
import contextvars
from collections.abc import Callable
from collections.abc import Hashable
from typing import Any

import tensorflow as tf

_OUTSIDE: Any = contextvars.ContextVar('dv3_outside', default=None)


@contextlib.contextmanager
def looping():
  """While the body of a loop is traced, `once` computes before the loop.

  XLA moves nothing out of loops on a GPU, and TensorFlow no variable's cast, so
  that kernels would be cast and turned in every step. Enter the context where
  the loop is made. In the context of another loop it changes nothing: what
  leaves the inner one leaves both.
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

  Args:
    key: what make depends on: references of variables (`Variable.ref`), and
      what is done to them. The same key stands for the same result.
    make: a function that reads variables and nothing that the loop changes.
  """
  outside = _OUTSIDE.get()
  if outside is None:
    return make()
  graph, made = outside
  if key not in made:
    with graph.as_default():
      made[key] = make()
  return made[key]


def cast(variable, dtype) -> tf.Tensor:
  """Returns a variable in a dtype; in a loop it is cast once, before it."""
  if variable.dtype.base_dtype == tf.as_dtype(dtype):
    return tf.convert_to_tensor(variable)
  return once(
      (variable.ref(), tf.as_dtype(dtype)),
      lambda: tf.cast(variable, dtype))
