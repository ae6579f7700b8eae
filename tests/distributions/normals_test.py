"""The normals of the 2021 form, against TFP's own."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dv3 import distributions


def make():
  rng = np.random.default_rng(0)
  mean, stddev = (
      tf.constant(rng.normal(size=(4, 3)) * 2, tf.float32) for _ in range(2))
  mine = distributions.TruncatedNormal(mean, stddev, 0.1)
  reference = tfp.distributions.TruncatedNormal(
      tf.tanh(mean), 2 * tf.sigmoid(stddev / 2) + 0.1, -1.0, 1.0)
  return mine, reference


def test_truncated_normal():
  mine, reference = make()
  value = tf.random.stateless_uniform([4, 3], (0, 1), -1.0, 1.0)
  total = lambda x: tf.reduce_sum(x, -1)
  np.testing.assert_allclose(
      mine.log_prob(value), total(reference.log_prob(value)), rtol=1e-4)
  np.testing.assert_allclose(
      mine.entropy(), total(reference.entropy()), rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(
      mine.mean(), reference.mean(), rtol=1e-3, atol=1e-4)
  assert np.isneginf(mine.log_prob(value + 3.0)).all()


def test_truncated_normal_samples():
  mine, reference = make()
  many = lambda x: tf.tile(x[None], [20000, 1, 1])
  wide = distributions.TruncatedNormal(
      many(tf.atanh(mine.loc)), many(2 * tf.math.log(
          (mine.scale - 0.1) / 2 / (1 - (mine.scale - 0.1) / 2))), 0.1)
  samples = distributions.Rng(0).sample(wide).numpy()
  assert np.abs(samples).max() < 1.0
  np.testing.assert_allclose(samples.mean(0), reference.mean(), atol=0.02)
  np.testing.assert_allclose(samples.std(0), reference.stddev(), atol=0.02)


class Largest:
  """A key whose uniform numbers are the largest, or least, that there are."""

  def __init__(self, value):
    self.value = value

  def uniform(self, shape):
    return tf.fill(shape, tf.constant(self.value, tf.float32))


def test_truncated_normal_samples_of_extreme_numbers_are_inside():
  means, stddevs = np.meshgrid(np.linspace(-8, 8, 161), np.linspace(-30, 8, 77))
  dist = distributions.TruncatedNormal(
      tf.constant(means, tf.float32), tf.constant(stddevs, tf.float32), 0.1)
  for value in (1.0 - 2.0 ** -24, 2.0 ** -25):
    sample = dist.draw(Largest(value)).numpy()
    assert np.abs(sample).max() < 1.0  # Not NaN, either.


def test_truncated_normal_samples_have_the_gradient_of_the_quantile():
  raw = tf.Variable([[0.3]])
  def draw():
    dist = distributions.TruncatedNormal(raw, tf.constant([[0.5]]), 0.1)
    return distributions.Rng(5).sample(dist)
  with tf.GradientTape() as tape:
    sample = draw()
  slope = tape.gradient(sample, raw).numpy().item()
  step, ends = 1e-2, []
  for sign in (1, -1):
    raw.assign([[0.3 + sign * step]])
    ends.append(draw().numpy().item())
  np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2 / step, rtol=1e-2)


def test_unit_normal():
  mean = tf.constant(np.random.default_rng(1).normal(size=(4, 3)), tf.float32)
  value = mean + tf.random.stateless_normal([4, 3], (0, 1))
  reference = tfp.distributions.Independent(
      tfp.distributions.Normal(mean, 1.0), 1)
  np.testing.assert_allclose(
      distributions.UnitNormal(mean, 1).log_prob(value),
      reference.log_prob(value), rtol=1e-5)


def test_unit_normal_image():
  mean = tf.zeros([2, 4, 5, 3])
  image = tf.fill([2, 4, 5, 3], tf.constant(255, tf.uint8))
  expected = -4 * 5 * 3 * (0.5 * 0.25 + 0.5 * np.log(2 * np.pi))
  dist = distributions.UnitNormalImage(mean)
  np.testing.assert_allclose(
      dist.log_prob(image), [expected] * 2, rtol=1e-5)
  np.testing.assert_allclose(dist.prediction(), mean + 0.5)
