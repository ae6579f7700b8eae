"""What every distribution answers: entropy, KL, copies and slices."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from dv3 import distributions

tfd = tfp.distributions


def draw(shape, seed):
  return tf.constant(
      np.random.default_rng(seed).normal(size=shape), tf.float32)


def binary(seed):
  logit = draw([4, 3], seed)
  return distributions.Binary(logit), tfd.Bernoulli(logit)


def unit_normal(seed, make=distributions.UnitNormal):
  mean = draw([4, 3, 2, 5], seed)
  return make(mean, 2), tfd.Independent(tfd.Normal(mean, 1.0), 2)


def unit_image(seed):
  return unit_normal(seed, distributions.UnitNormalImage)


def bounded(seed):
  mean, stddev = draw([4, 3, 2], seed), draw([4, 3, 2], seed + 10)
  return distributions.BoundedNormal(mean, stddev, 0.2, 0.9), tfd.Independent(
      tfd.Normal(tf.tanh(mean), 0.7 * tf.sigmoid(stddev + 2.0) + 0.2), 1)


def categorical(logits):
  return tfd.Categorical(logits=logits)


def twohot(seed):
  logits = draw([4, 3, 21], seed)
  return distributions.TwoHot(
      logits, distributions.symexp_bins(21)), categorical(logits)


def symlog_twohot(seed):
  logits = draw([4, 3, 21], seed)
  return distributions.SymlogTwoHot(logits), categorical(logits)


def indices(seed):
  logits = draw([4, 3, 6], seed)
  return distributions.Indices(logits, (2,), (3, 3)), tfd.Independent(
      categorical(tf.reshape(logits, [4, 3, 2, 3])), 1)


def onehot(seed):
  logits = draw([4, 3, 2, 5], seed)
  probs = 0.9 * tf.nn.softmax(logits) + 0.1 / 5
  return distributions.OneHot(logits, 0.1), tfd.Independent(
      tfd.Categorical(probs=probs), 1)


KNOWN = [
    binary, unit_normal, unit_image, bounded, twohot, symlog_twohot, indices,
    onehot]


@pytest.mark.parametrize('make', KNOWN)
def test_entropy_and_kl_are_tfps(make):
  (p, p_known), (q, q_known) = make(0), make(1)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  close(p.entropy(), p_known.entropy())
  close(
      distributions.kl_divergence(p, q), tfd.kl_divergence(p_known, q_known))
  close(distributions.kl_divergence(p, p), tf.zeros([4, 3]))


def truncated(seed):
  return distributions.TruncatedNormal(
      draw([4, 3, 1], seed), draw([4, 3, 1], seed + 10), 0.3)


def test_kl_of_truncated_normals_is_the_integral():
  p, q = truncated(0), truncated(1)
  x = tf.reshape(tf.linspace(-1.0, 1.0, 4001), [-1, 1, 1, 1])
  log_p, log_q = p.log_prob(x), q.log_prob(x)
  density = tf.exp(log_p)
  integral = lambda y: np.trapezoid(y, dx=2 / 4000, axis=0)
  np.testing.assert_allclose(
      distributions.kl_divergence(p, q), integral(density * (log_p - log_q)),
      rtol=1e-3, atol=1e-4)
  centred = tf.square(x[..., 0] - p.mean()[..., 0])
  np.testing.assert_allclose(
      p.variance()[..., 0], integral(density * centred), rtol=1e-3, atol=1e-4)


def concatenated(seed):
  return distributions.Concatenated([bounded(seed)[0], onehot(seed)[0]])


def test_kl_of_a_product_is_a_sum():
  kl = distributions.kl_divergence
  np.testing.assert_allclose(
      kl(concatenated(0), concatenated(1)),
      kl(bounded(0)[0], bounded(1)[0]) + kl(onehot(0)[0], onehot(1)[0]))
  with pytest.raises(ValueError, match='pieces'):
    kl(concatenated(0), distributions.Concatenated([bounded(0)[0]]))


def test_other_bins_have_no_kl():
  with pytest.raises(ValueError, match='bins'):
    distributions.kl_divergence(twohot(0)[0], symlog_twohot(0)[0])


def test_a_squared_error_says_that_it_has_no_entropy():
  with pytest.raises(NotImplementedError, match='squared error.*UnitNormal'):
    distributions.SquaredError(draw([4, 3], 0), 1).entropy()


@pytest.mark.parametrize('make', [
    *(lambda make=make: make(0)[0] for make in KNOWN),
    lambda: truncated(0), lambda: concatenated(0),
    lambda: distributions.SquaredError(draw([4, 3, 2], 0), 1, True, 1e-8),
    lambda: distributions.Image(tf.sigmoid(draw([4, 3, 2, 2, 1], 0)))])
def test_copies_and_slices_of_the_batch(make):
  dist = make()
  same, part = dist.copy(), dist[1:3, 0]
  assert type(same) is type(dist) and type(part) is type(dist)
  np.testing.assert_array_equal(same.mode(), dist.mode())
  assert part.batch_shape == [2]
  assert part.event_shape == dist.event_shape
  value = tf.stop_gradient(dist.mode()) * 0.5
  np.testing.assert_allclose(
      part.log_prob(value[1:3, 0]), dist.log_prob(value)[1:3, 0], rtol=1e-5,
      atol=1e-6)
