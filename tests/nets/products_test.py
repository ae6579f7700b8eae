"""Dense products, their gradients and blocks, against NumPy."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3.nets import linear
from dv3.nets import products
from dv3.nets import xla


@pytest.mark.parametrize('rows', [6, 7, 4096])
@pytest.mark.parametrize('shape', [(8, 3), (3, 8), (16, 2), (4, 4)])
@pytest.mark.parametrize('compiler', [tf.function, xla.compiled])
def test_product_and_gradients(rows, shape, compiler):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, shape[0])).astype(np.float32)
  kernel = rng.normal(size=shape).astype(np.float32)
  upstream = rng.normal(size=(rows, shape[1])).astype(np.float32)

  def run(x, kernel):
    with tf.GradientTape() as tape:
      tape.watch([x, kernel])
      y = linear.dense_product(x, kernel)
    return y, tape.gradient(y, [x, kernel], output_gradients=upstream)

  y, (dx, dkernel) = compiler(run)(tf.constant(x), tf.constant(kernel))
  np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dx, upstream @ kernel.T, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
      dkernel, x.T @ upstream, rtol=1e-5, atol=1e-5 * rows ** 0.5)


def test_a_list_counts_as_its_concatenation():
  layer = linear.Linear(3)
  layer.build([None, 7])
  a, b = tf.random.stateless_normal([2, 5, 4], (0, 1)), tf.ones([2, 5, 3])
  np.testing.assert_allclose(
      layer([a, b]), layer(tf.concat([a, b], -1)), rtol=1e-5, atol=1e-6)


def test_blocks_come_back_in_order():
  x = tf.reshape(tf.range(24), [2, 12])
  np.testing.assert_array_equal(
      linear.to_blocks(x, 3)[1], [[4, 5, 6, 7], [16, 17, 18, 19]])
  np.testing.assert_array_equal(
      linear.from_blocks(linear.to_blocks(x, 3)), x)


def test_a_two_hot_target_meets_its_two_bins():
  bins = np.asarray([-4.0, -1.0, 0.0, 1.0, 4.0], np.float32)
  logits = tf.random.stateless_normal([7, 5], (0, 1))
  target = np.asarray([-9.0, -4.0, -2.5, 0.0, 0.25, 4.0, 1e9], np.float32)
  weights = np.asarray([
      [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0],
      [0, 0, 0.75, 0.25, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]])
  dist = distributions.TwoHot(logits, bins)
  with tf.GradientTape() as tape:
    tape.watch(logits)
    found = distributions.TwoHot(logits, bins).log_prob(target)
  probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(
      found, (weights * np.log(probabilities)).sum(-1), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
      tape.gradient(found, logits), weights - probabilities, atol=1e-6)
  np.testing.assert_allclose(dist.encode(target), weights, atol=1e-6)


@pytest.fixture
def bfloat16_products(monkeypatch):
  """Products as on a processor that has them, whatever this one has."""
  monkeypatch.setattr(products, 'processor_multiplies_bfloat16', lambda: True)


@pytest.mark.parametrize('rows', [6, 7])
@pytest.mark.parametrize('shape', [(8, 3), (3, 8)])
@pytest.mark.parametrize('function, lead', [
    (products.matmul, ()), (products.matmul, (2,)), (products.dense, ()),
    (products.unrounded_matmul, (2,))])
def test_bfloat16_for_a_cpu(rows, shape, function, lead, bfloat16_products):
  """Against float64, of factors that bfloat16 holds exactly."""
  rng = np.random.default_rng(0)
  draw = lambda *size: rng.integers(-8, 9, size).astype(np.float64) / 8
  a, b, upstream = (
      draw(*lead, rows, shape[0]), draw(*lead, *shape),
      draw(*lead, rows, shape[1]))
  operations = []

  @xla.compiled
  def run(a, b, upstream):
    with tf.GradientTape() as tape:
      tape.watch([a, b])
      y = function(a, b)
    gradients = tape.gradient(
        y, [a, b], output_gradients=tf.cast(upstream, y.dtype))
    operations.extend(
        x.type for x in tf.compat.v1.get_default_graph().get_operations())
    return y, gradients

  y, (da, db) = run(*(tf.constant(x, tf.bfloat16) for x in (a, b, upstream)))
  turned = lambda x: np.swapaxes(x, -1, -2)
  exact = function is products.unrounded_matmul
  for found, expected, dtype in (
      (y, a @ b, tf.float32 if exact else tf.bfloat16),
      (da, upstream @ turned(b), tf.bfloat16),
      (db, turned(a) @ upstream, tf.bfloat16)):
    assert found.dtype == dtype
    rounding = 2.0 ** (-8 if dtype == tf.bfloat16 else -20)
    np.testing.assert_allclose(
        tf.cast(found, tf.float64), expected, rtol=rounding, atol=1e-6)
  assert operations.count('BatchMatMulV3') == 3
  assert 'MatMul' not in operations and 'BatchMatMulV2' not in operations


def test_an_output_is_not_rounded_where_sums_are_float32(bfloat16_products):
  rng = np.random.default_rng(0)
  x = rng.integers(-8, 9, (4, 6, 16)).astype(np.float32) / 8
  layer, rounded = (
      make(3, dtype='mixed_bfloat16')
      for make in (linear.Output, linear.Linear))
  for each in (layer, rounded):
    each.build([None, 16])
    each.kernel.assign(
        np.random.default_rng(1).integers(-8, 9, (16, 3)) / 8.0)
    each.bias.assign([1.0 + 2.0 ** -12, 2.0, 3.0])
  want = x @ layer.kernel.numpy() + layer.bias.numpy()
  found = xla.compiled(layer.call)(tf.constant(x))
  assert found.dtype == tf.float32
  np.testing.assert_allclose(found, want, rtol=1e-6)
  other = tf.cast(xla.compiled(rounded.call)(tf.constant(x)), tf.float32)
  assert np.abs(other - want).max() > 1e-4


def test_other_products_are_tensorflows_own(bfloat16_products):
  def wide(dtype, compiler):
    found = []
    def run(a):
      y = products.matmul(a, a)
      found.extend(
          x.type for x in tf.compat.v1.get_default_graph().get_operations())
      return y
    compiler(run)(tf.ones([4, 4], dtype))
    assert 'MatMul' in found or 'BatchMatMulV3' in found
    return 'BatchMatMulV3' in found
  plain = lambda f: tf.function(f, autograph=False, jit_compile=True)
  assert wide(tf.bfloat16, xla.compiled)
  assert not wide(tf.float32, xla.compiled)
  assert not wide(tf.bfloat16, plain)


ABORTS = '''
import tensorflow as tf
from dv3.nets import products
from dv3.nets import xla
products.processor_multiplies_bfloat16 = lambda: True
a, b = tf.ones([64, 64], tf.bfloat16), tf.ones([64, 128], tf.bfloat16)
for reduce in (tf.reduce_sum, tf.reduce_max):
  for axis in (0, 1, None):
    for dtype in (tf.float32, tf.bfloat16):
      xla.compiled(lambda a, b: reduce(
          tf.cast(products.matmul(a, b), dtype), axis))(a, b)
bias = tf.range(128.0)
for reduce in (tf.reduce_sum, tf.reduce_max, tf.reduce_logsumexp):
  for axis in (0, 1, None):
    for after in (lambda y: y + bias, lambda y: tf.sigmoid(y + 1.0)):
      xla.compiled(lambda a, b: reduce(after(
          products.unrounded_matmul(a, b)), axis))(a, b)
for turned in (
    lambda a, b: tf.transpose(products.matmul(a, b)),
    lambda a, b: products.matmul(tf.transpose(products.matmul(a, b)), a),
    lambda a, b: products.matmul(tf.transpose(b), tf.transpose(a)),
    lambda a, b: tf.transpose(products.matmul(tf.transpose(b), a))):
  xla.compiled(turned)(a, b)
print('whole')
'''


def test_what_reads_a_product_neither_aborts_nor_is_refused():
  """A sum aborts XLA's library where nothing stands between the two."""
  run = subprocess.run(
      [sys.executable, '-c', ABORTS], capture_output=True, text=True)
  assert run.stdout.strip() == 'whole', run.stderr[-2000:]
