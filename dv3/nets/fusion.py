"""Elementwise work around convolutions, compiled apart from them."""

import contextlib
import contextvars

import tensorflow as tf

from dv3.nets import xla

_FUSING = contextvars.ContextVar('dv3_fusing', default=False)


@contextlib.contextmanager
def fusing():
  """While a graph is traced in this context, `fused` pieces are compiled.

  For graphs on a CPU: oneDNN's convolutions are several times faster than
  XLA's, while what stands between them (bias, pooling, norm, activation) takes
  a pass over memory an operation there, and one for all under XLA.
  """
  token = _FUSING.set(True)
  try:
    yield
  finally:
    _FUSING.reset(token)


def compiled(function):
  """Returns the function, compiled by XLA within `fusing`.

  Args:
    function: of tensors; see `fused`.
  """
  if not _FUSING.get():
    return function
  return xla.compiled(function)


def fused(function, *tensors):
  """Returns function(*tensors), compiled by XLA within `fusing`.

  Its gradient computes the function anew, so that a pass stores nothing but the
  arguments.

  Args:
    function: of tensors to one tensor; it reads no variable but what it is
      given, and uses no randomness or state.
    *tensors: [...] of any dtype; gradients go to those of numbers.
  """
  if not _FUSING.get():
    return function(*tensors)
  forward = compiled(function)

  @compiled
  def backward(upstream, *tensors):
    numbers = [x for x in tensors if x.dtype.is_floating]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(numbers)
      result = function(*tensors)
    found = iter(tape.gradient(
        result, numbers, output_gradients=upstream,
        unconnected_gradients=tf.UnconnectedGradients.ZERO))
    return [next(found) if x.dtype.is_floating else None for x in tensors]

  @tf.custom_gradient
  def run(*tensors):
    return (
        untaped(forward, *tensors),
        lambda upstream: backward(upstream, *tensors))

  return run(*map(tf.convert_to_tensor, tensors))


def untaped(function, *tensors):
  """Returns function(*tensors) without a gradient, for a custom one beside it.

  A persistent tape that watches the arguments of a compiled function has it
  return all its intermediate results, whether or not anybody asks for them.
  """
  return function(*map(tf.stop_gradient, tensors))
