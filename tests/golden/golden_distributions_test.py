"""Golden numbers: distributions, their losses, entropies and gradients."""

import golden_data
import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions

DATA = golden_data.load('distributions')


def get(prefix):
  return {
      k[len(prefix) + 1:]: v for k, v in DATA.items()
      if k.startswith(prefix + '/')}


def gradients(function, *values):
  values = [tf.constant(x) for x in values]
  with tf.GradientTape() as tape:
    for x in values:
      tape.watch(x)
    y = tf.reduce_sum(function(*values))
  return tape.gradient(y, values)


def close(actual, expected, rtol=1e-4, atol=1e-5):
  np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def close_gradient(actual, expected):
  close(actual, expected, 1e-3, 2e-5 * np.abs(expected).max())


def test_distributions_onehot():
  d = get('onehot')
  make = lambda x: distributions.OneHot(x, float(d['unimix']))
  p, q = make(d['p_logits']), make(d['q_logits'])
  close(p.log_probs, d['p_logprobs'])
  close(p.probs, d['p_probs'])
  np.testing.assert_array_equal(p.mode(), d['p_mode'])
  close(p.log_prob(d['event_onehot']), d['p_logp_event'])
  close(p.entropy(), d['p_entropy'])
  close(distributions.kl_divergence(p, q), d['kl_pq'])
  kl = lambda a, b: distributions.kl_divergence(make(a), make(b))
  grad_p, grad_q = gradients(kl, d['p_logits'], d['q_logits'])
  close_gradient(grad_p, d['kl_grad_p_logits'])
  close_gradient(grad_q, d['kl_grad_q_logits'])
  grad, = gradients(lambda x: make(x).entropy(), d['p_logits'])
  close_gradient(grad, d['entropy_grad_p_logits'])


def test_distributions_onehot_straight_through():
  d = get('onehot')
  make = lambda x: distributions.OneHot(x, float(d['unimix']))
  sample = tf.constant(d['st_sample'])
  close(make(d['p_logits']).straight_through(sample), d['st_sample'])
  grad, = gradients(
      lambda x: make(x).straight_through(sample) * d['st_weight'],
      d['p_logits'])
  close_gradient(grad, d['st_grad_p_logits'])


def test_distributions_categorical():
  d = get('categorical')
  classes = d['logits'].shape[-1]
  event = tf.one_hot(d['event'], classes)[:, None]
  make = lambda x: distributions.OneHot(x[:, None])
  dist = make(tf.constant(d['logits']))
  close(dist.log_prob(event), d['logp'])
  close(dist.entropy(), d['entropy'])
  np.testing.assert_array_equal(
      np.argmax(dist.mode()[:, 0], -1), d['mode'])
  grad, = gradients(lambda x: -make(x).log_prob(event), d['logits'])
  close_gradient(grad, d['loss_grad_logits'])
  indices = distributions.Indices(d['logits'], (), (classes,))
  close(indices.log_prob(tf.constant(d['event'])), d['logp'])
  np.testing.assert_array_equal(indices.mode(), d['mode'])


@pytest.mark.parametrize('target', ['zero', 'one', 'soft'])
def test_distributions_binary(target):
  d = get('binary')
  loss = lambda x: -distributions.Binary(x).log_prob(d[f'target_{target}'])
  close(loss(d['logit']), d[f'loss_{target}'])
  grad, = gradients(loss, d['logit'])
  close_gradient(grad, d[f'loss_grad_{target}'])
  dist = distributions.Binary(d['logit'])
  close(dist.mean(), d['prob_one'])
  np.testing.assert_array_equal(dist.mode(), d['mode'])


def test_distributions_squared_errors():
  mean, target = DATA['mse/mean'], DATA['mse/target']
  close(
      -distributions.SquaredError(mean, 1).log_prob(target), DATA['mse/loss'])
  loss = lambda x: -distributions.SquaredError(
      x, 1, symlog=True).log_prob(target)
  close(loss(mean), DATA['symlog_mse/loss'])
  close(
      distributions.SquaredError(mean, 1, symlog=True).mean(),
      DATA['symlog_mse/pred'])
  grad, = gradients(loss, mean)
  close_gradient(grad, DATA['symlog_mse/loss_grad_mean'])


def test_distributions_image_mse():
  dist = distributions.Image(DATA['image_mse/mean'])
  close(-dist.log_prob(DATA['image_mse/target_uint8']), DATA['image_mse/loss'])


def test_distributions_bounded_normal():
  d = get('bounded_normal')
  make = lambda m, s: distributions.BoundedNormal(
      m, s, float(d['minstd']), float(d['maxstd']))
  dist = make(d['raw_mean'], d['raw_stddev'])
  close(dist.mean(), d['mean'])
  close(dist.scale, d['stddev'])
  close(dist.log_prob(d['action']), d['logp'])
  close(dist.entropy(), d['entropy'])
  grad_mean, grad_stddev = gradients(
      lambda m, s: make(m, s).log_prob(d['action']),
      d['raw_mean'], d['raw_stddev'])
  close_gradient(grad_mean, d['logp_grad_raw_mean'])
  close_gradient(grad_stddev, d['logp_grad_raw_stddev'])
  _, grad = gradients(
      lambda m, s: make(m, s).entropy(), d['raw_mean'], d['raw_stddev'])
  close_gradient(grad, d['entropy_grad_raw_stddev'])
