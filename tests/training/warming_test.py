"""Compilation ahead of the first update, and the memory that it leaves."""

import ctypes

import numpy as np
import pytest
import tensorflow as tf

from dv3.training import warming


def test_what_is_compiled_ahead_runs_as_if_it_had_not_run():
  kernel = tf.Variable(tf.eye(3), name='kernel')
  moving = tf.Variable(2.0, trainable=False, name='moving')
  runs = []

  def compute(x, scale):
    runs.append(x.shape)
    moving.assign(0.5 * moving + tf.reduce_mean(x))
    return x @ kernel * scale

  function = tf.function(compute, autograph=False, jit_compile=True)

  @tf.function(autograph=False)
  def update(x):
    warming.compile_ahead(function, x, 3.0)
    return function(x, 3.0)

  x = np.full((2, 3), 4.0, np.float32)
  np.testing.assert_array_equal(update(x), 3 * x)
  assert moving.numpy() == 0.5 * 2.0 + 4.0
  np.testing.assert_array_equal(update(x), 3 * x)
  assert moving.numpy() == 0.5 * 5.0 + 4.0
  assert runs == [(2, 3)]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), 'malloc_trim'), reason='no glibc')
def test_freed_memory_is_returned():
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  libc.free.argtypes = [ctypes.c_void_p]
  blocks = []
  with warming.returning_memory(0.01):
    for _ in range(40_000):
      pointer = libc.malloc(4000)
      ctypes.memset(pointer, 1, 4000)
      blocks.append(pointer)
    grown = resident()
    # All but the last, which keeps the heap from shrinking by itself.
    for pointer in blocks[:-1]:
      libc.free(pointer)
  assert resident() < grown - 40_000 * 4000 / 2
  libc.free(blocks[-1])


def test_errors_pass_through():
  with pytest.raises(KeyError), warming.returning_memory():
    raise KeyError


def resident() -> int:
  with open('/proc/self/statm', encoding='ascii') as file:
    return int(file.read().split()[1]) * 4096
