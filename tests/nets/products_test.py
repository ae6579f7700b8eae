"""Dense products, their gradients and blocks, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3.nets import linear


@pytest.mark.parametrize('rows', [6, 7])
@pytest.mark.parametrize('shape', [(8, 3), (3, 8)])
@pytest.mark.parametrize('compiled', [False, True])
def test_product_and_gradients(rows, shape, compiled):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, shape[0])).astype(np.float32)
  kernel = rng.normal(size=shape).astype(np.float32)
  upstream = rng.normal(size=(rows, shape[1])).astype(np.float32)

  @tf.function(autograph=False, jit_compile=compiled)
  def run(x, kernel):
    with tf.GradientTape() as tape:
      tape.watch([x, kernel])
      y = linear.dense_product(x, kernel)
    return y, tape.gradient(y, [x, kernel], output_gradients=upstream)

  y, (dx, dkernel) = run(tf.constant(x), tf.constant(kernel))
  np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dx, upstream @ kernel.T, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dkernel, x.T @ upstream, rtol=1e-5, atol=1e-5)


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


class Numbers:
  """A key whose uniform numbers are known."""

  def __init__(self, values):
    self.values = values

  def uniform(self, shape):
    return tf.reshape(tf.constant(self.values, tf.float32), shape)


@pytest.mark.parametrize('number, index', [
    (0.05, 0), (0.15, 1), (0.55, 2), (0.95, 3)])
def test_a_draw_inverts_the_cumulative_distribution(number, index):
  logits = np.log([[0.1, 0.3, 0.2, 0.4]]).astype(np.float32)  # One group.
  dist = distributions.OneHot(logits[None])
  sample = dist.draw(Numbers([number]))
  np.testing.assert_array_equal(sample[0, 0], np.eye(4)[index])


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
