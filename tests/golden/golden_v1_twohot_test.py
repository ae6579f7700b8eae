"""Golden numbers of the 2023 form: two-hot in symlog space, symlog MSE."""

import golden_data
import golden_weights
import numpy as np
import tensorflow as tf

from dv3 import distributions

DATA = golden_data.load('v1_twohot')


def test_v1_twohot_bins_and_encoding():
  dist = distributions.SymlogTwoHot(tf.constant(DATA['logits']))
  np.testing.assert_allclose(
      dist.bins, DATA['bins_symlog_space'], rtol=1e-5, atol=1e-7)
  symlog = np.sign(DATA['target']) * np.log1p(np.abs(DATA['target']))
  np.testing.assert_allclose(
      dist.encode(tf.constant(symlog.astype(np.float32))),
      DATA['target_weights'], rtol=1e-4, atol=1e-5)


def test_v1_twohot_loss_and_gradient():
  logits = tf.constant(DATA['logits'])
  with tf.GradientTape() as tape:
    tape.watch(logits)
    loss = -distributions.SymlogTwoHot(logits).log_prob(DATA['target'])
  np.testing.assert_allclose(loss, DATA['loss'], rtol=1e-4, atol=1e-5)
  golden_weights.gradients(
      tape.gradient(loss, logits), DATA['loss_grad_logits'])


def test_v1_twohot_mean():
  dist = distributions.SymlogTwoHot(tf.constant(DATA['logits']))
  # symexp turns an error e of the mean in symlog space into e (1 + |y|).
  np.testing.assert_allclose(
      dist.mean(), DATA['pred'], rtol=1e-4, atol=1e-5)
  count = DATA['logits'].shape[-1]
  zero = distributions.SymlogTwoHot(tf.zeros([1, count])).mean()
  np.testing.assert_allclose(zero, DATA['pred_zero_logits'], atol=1e-6)


def test_v1_twohot_symlog_mse():
  dist = distributions.SquaredError(
      tf.constant(DATA['symlog_mse/mode']), 1, symlog=True, tolerance=1e-8)
  np.testing.assert_allclose(
      -dist.log_prob(DATA['symlog_mse/target']), DATA['symlog_mse/loss'],
      rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
      dist.prediction(), DATA['symlog_mse/pred'], rtol=1e-5)


def test_v1_twohot_tolerance_ends_the_gradient():
  mean = tf.constant([[1e-5, 1.0]])
  with tf.GradientTape() as tape:
    tape.watch(mean)
    loss = -distributions.SquaredError(mean, 1, tolerance=1e-8).log_prob(
        tf.zeros([1, 2]))
  np.testing.assert_allclose(tape.gradient(loss, mean), [[0.0, 2.0]])
