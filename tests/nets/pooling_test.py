"""Maxima over 2 x 2 pixels and their gradients, against their definition."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from dv3.nets import fusion
from dv3.nets import pooling


def windows(x):
  """Returns x [N, Y, X, ch] as [N, Y/2, X/2, 4, ch], pixels row by row."""
  n, rows, columns, depth = x.shape
  x = x.reshape(n, rows // 2, 2, columns // 2, 2, depth)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(
      n, rows // 2, columns // 2, 4, depth)


def unwindowed(x):
  n, rows, columns, _, depth = x.shape
  x = x.reshape(n, rows, columns, 2, 2, depth)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * rows, 2 * columns, depth)


@pytest.mark.parametrize('fuse', [False, True])
@pytest.mark.parametrize('folded', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_maxima_and_evenly_shared_gradients(folded, fuse, dtype):
  rng = np.random.default_rng(0)
  # Of three values, so that one to four pixels of a window are the greatest.
  x = rng.integers(0, 3, (3, 6, 8, 5)).astype(np.float32)
  upstream = rng.integers(-8, 8, (3, 3, 4, 5)).astype(np.float32) * 12
  pixels = windows(x)
  maxima = pixels.max(3)
  equal = pixels == maxima[:, :, :, None]
  assert set(np.unique(equal.sum(3))) == {1, 2, 3, 4}
  want = equal * (upstream / equal.sum(3))[:, :, :, None]

  @tf.function(autograph=False)
  def run(x, upstream):
    with fusion.fusing() if fuse else contextlib.nullcontext():
      with tf.GradientTape() as tape:
        tape.watch(x)
        y = (pooling.folded_max_pool2 if folded else pooling.max_pool2)(x)
      return y, tape.gradient(y, x, output_gradients=upstream)

  cast = lambda x: tf.constant(x, dtype)
  y, gradient = run(cast(pixels if folded else x), cast(upstream))
  assert y.dtype == gradient.dtype == dtype
  np.testing.assert_array_equal(tf.cast(y, tf.float32), maxima)
  np.testing.assert_array_equal(
      tf.cast(gradient, tf.float32), want if folded else unwindowed(want))
