"""Stages of convolutions, against sums written out in NumPy."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from dv3.nets import convolution
from dv3.nets import fusion
from dv3.nets import norms
from dv3.nets import xla


def convolved(x, kernel):
  """Returns the SAME convolution of x [N, Y, X, in] by its definition."""
  size = kernel.shape[0]
  pad = (size - 1) // 2
  padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
  result = np.zeros((*x.shape[:3], kernel.shape[3]))
  for row in range(x.shape[1]):
    for column in range(x.shape[2]):
      patch = padded[:, row: row + size, column: column + size]
      result[:, row, column] = np.einsum('nijc,ijcd->nd', patch, kernel)
  return result


def pooled(y):
  n, rows, columns, depth = y.shape
  return y.reshape(n, rows // 2, 2, columns // 2, 2, depth).max((2, 4))


@pytest.mark.parametrize('size', [1, 3, 5, 7])
def test_folded_product_holds_four_pixels_of_the_product(size):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 6, 8, 3)).astype(np.float32)
  conv = convolution.Conv2D(4, size)
  conv.build([None, None, None, 3])
  conv.kernel.assign(rng.normal(size=conv.kernel.shape))
  assert conv.foldable
  want = convolved(x, conv.kernel.numpy())
  folded = conv.folded_product(x).numpy()
  assert folded.shape == (2, 3, 4, 4, 4)
  for a in (0, 1):
    for b in (0, 1):
      np.testing.assert_allclose(
          folded[:, :, :, 2 * a + b], want[:, a::2, b::2], rtol=1e-4,
          atol=1e-4)


def upconvolved(x, kernel):
  """Returns a SAME transposed convolution by its definition."""
  n, rows, columns, depth = x.shape
  size = kernel.shape[0]
  spread = tf.reshape(x, [n, rows, 1, columns, 1, depth])
  spread = tf.pad(spread, [[0, 0], [0, 0], [0, 1], [0, 0], [0, 1], [0, 0]])
  spread = tf.reshape(spread, [n, 2 * rows, 2 * columns, depth])
  # 2 n - 1 rows of pixels and zeros, and size zeros around.
  before = size - 1 - (size - 2) // 2
  around = [before, size - before - 1]
  return tf.nn.conv2d(
      spread, kernel, 1, [[0, 0], around, around, [0, 0]])


@pytest.mark.parametrize('fuse', [False, True])
@pytest.mark.parametrize('depth, folds', [(3, True), (5, False)])
@pytest.mark.parametrize('size', [2, 3, 4, 5, 6])
def test_transposed_convolution_and_its_gradients(size, depth, folds, fuse):
  rng = np.random.default_rng(2)
  x = tf.constant(rng.normal(size=(2, 4, 6, 7)), tf.float32)
  layer = convolution.Upconv2D(depth, size, use_bias=False)
  layer.build([None, None, None, 7])
  layer.kernel.assign(rng.normal(size=layer.kernel.shape))
  assert layer.foldable == folds
  upstream = tf.constant(rng.normal(size=(2, 8, 12, depth)), tf.float32)
  def gradients(function):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = function(x)
    return y, *tape.gradient(
        y, [x, layer.kernel], output_gradients=upstream)
  @tf.function
  def found():
    with fusion.fusing() if fuse else contextlib.nullcontext():
      return gradients(layer)
  sized = tf.function(
      layer.call, input_signature=[tf.TensorSpec([None, None, None, 7])])
  np.testing.assert_allclose(sized(x), layer(x), rtol=1e-5, atol=1e-5)
  for value, want in zip(
      found(), gradients(lambda x: upconvolved(x, layer.kernel)), strict=True):
    np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'depth, fuse, export, folds',
    [(4, False, False, True), (4, True, False, True),
     (16, False, False, False), (16, True, False, False),
     (16, False, True, True)])
def test_stage_with_maxima(depth, fuse, export, folds, monkeypatch):
  monkeypatch.setattr(xla, 'has_gpu', lambda: False)
  rng = np.random.default_rng(1)
  x = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
  conv, norm = convolution.Conv2D(depth, 5), norms.make('rms')
  conv.build([None, None, None, 3])
  norm.build([None, None, None, depth])
  for weight in (conv.kernel, conv.bias, norm.scale):
    weight.assign(rng.normal(size=weight.shape))
  folded = []
  monkeypatch.setattr(
      conv, 'folded_product', lambda x, function=conv.folded_product: (
          folded.append(x) or function(x)))

  @tf.function(autograph=False)
  def run(x):
    if export:
      with xla.exporting():
        return convolution.stage(x, conv, norm, tf.nn.relu, pool=True)
    if not fuse:
      return convolution.stage(x, conv, norm, tf.nn.relu, pool=True)
    with fusion.fusing():
      return convolution.stage(x, conv, norm, tf.nn.relu, pool=True)

  y = pooled(convolved(x, conv.kernel.numpy())) + conv.bias.numpy()
  y /= np.sqrt((y ** 2).mean(-1, keepdims=True) + 1e-4)
  want = np.maximum(y * norm.scale.numpy(), 0.0)
  np.testing.assert_allclose(run(x), want, rtol=1e-3, atol=1e-3)
  assert bool(folded) == folds


def test_equal_pixels_share_the_gradient_of_a_folded_maximum():
  conv, norm = convolution.Conv2D(1, 1, use_bias=False), norms.make('none')
  conv.build([None, None, None, 1])
  norm.build([None, None, None, 1])
  conv.kernel.assign([[[[1.0]]]])
  x = tf.constant([[3.0, 3.0], [1.0, 3.0]])[None, :, :, None]
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = convolution.stage(x, conv, norm, tf.identity, pool=True)
  np.testing.assert_allclose(y, [[[[3.0]]]])
  np.testing.assert_allclose(
      tape.gradient(y, x)[0, :, :, 0], [[1 / 3, 1 / 3], [0, 1 / 3]],
      rtol=1e-6)
