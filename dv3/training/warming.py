"""Compilation ahead of the first update, and the memory that it leaves."""

import contextlib
import ctypes
import sys
import threading

import tensorflow as tf


def compile_ahead(function, *args) -> None:
  """Compiles a function for arguments that a trace has not computed yet.

  What XLA compiles while an update waits adds its memory to that of the
  update, which TensorFlow's pool for oneDNN never gives back. So the greatest
  function is compiled before: it runs on zeros, and untrained variables that it
  changed (moving statistics) get their values back.

  Args:
    function: a `tf.function` with `jit_compile=True`.
    *args: nests of tensors of known shapes; Python values stay what they are.
  """
  concrete = function.get_concrete_function(*args)
  # Called by a graph, as in the update: what eager code calls is compiled for
  # itself.
  graph = tf.function(lambda values: function(*values), autograph=False)
  with tf.init_scope():
    kept = [(v, v.read_value()) for v in concrete.graph.variables
            if not v.trainable]
    graph(tf.nest.map_structure(
        lambda x: tf.zeros(x.shape, x.dtype) if tf.is_tensor(x) else x, args))
    for variable, value in kept:
      variable.assign(value)


@contextlib.contextmanager
def returning_memory(seconds: float = 0.5):
  """Gives the system, while it lasts, what compilation has freed.

  The C library keeps it otherwise, half a gigabyte after an update of size 1m.
  Does nothing where `malloc_trim` is unknown: other C libraries than glibc
  return memory themselves or not at all.

  Args:
    seconds: between two times.
  """
  trim = getattr(ctypes.CDLL(None), 'malloc_trim', None) if (
      sys.platform.startswith('linux')) else None
  if trim is None:
    yield
    return
  done = threading.Event()
  def work():
    while not done.wait(seconds):
      trim(0)
    trim(0)
  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
