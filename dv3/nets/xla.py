"""Functions that XLA compiles, and what is written otherwise for a CPU."""

import contextlib
import contextvars
import functools

import tensorflow as tf

_FOR_CPU = contextvars.ContextVar('dv3_for_cpu', default=False)
_EXPORTING = contextvars.ContextVar('dv3_exporting', default=False)


def has_gpu() -> bool:
  """Whether TensorFlow sees a GPU."""
  return bool(tf.config.list_physical_devices('GPU'))


def compiled(function):
  """Returns the function, compiled by XLA for the devices of this process.

  While it is traced, `for_cpu` says whether those are CPUs.

  Args:
    function: of positional arguments, see `tf.function`.
  """
  @functools.wraps(function)
  def run(*args):
    token = _FOR_CPU.set(not has_gpu())
    try:
      return function(*args)
    finally:
      _FOR_CPU.reset(token)
  return tf.function(run, autograph=False, jit_compile=True)


def for_cpu() -> bool:
  """Whether what is traced now is for XLA on a CPU, and nothing else.

  Some formulas are several times faster there than those that are fastest on
  accelerators. Never true in programs that are exported.
  """
  return _FOR_CPU.get()


def for_accelerator() -> bool:
  """Whether what is traced now is for an accelerator.

  So are programs that are exported, whatever they are run on.
  """
  return _EXPORTING.get() or has_gpu() or bool(
      tf.config.list_physical_devices('TPU'))


@contextlib.contextmanager
def exporting():
  """What is traced in this context is exported."""
  token = _EXPORTING.set(True)
  try:
    yield
  finally:
    _EXPORTING.reset(token)
