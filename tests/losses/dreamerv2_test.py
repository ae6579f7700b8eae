"""The 2021 form's losses, against its formulas in plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import losses
from dv3.losses import actor_mixed
from dv3.losses import critic_target
from dv3.losses import kl

STARTS, HORIZON, CLASSES, LAMBDA = 4, 5, 3, 0.9


def arrays():
  rng = np.random.default_rng(0)
  shape = (STARTS, HORIZON + 1)
  return {
      'reward': rng.normal(size=shape), 'value': rng.normal(size=shape),
      'live': rng.uniform(0.5, 1.0, shape),
      'logits': rng.normal(size=(*shape, CLASSES)),
      'action': np.eye(CLASSES)[rng.integers(0, CLASSES, shape)],
      'mean': rng.normal(size=shape)}


def targets(reward, live, value):
  """Equation 4, from the last state backwards."""
  result = np.zeros((STARTS, HORIZON))
  following = value[:, -1]
  for t in reversed(range(HORIZON)):
    following = reward[:, t] + live[:, t] * (
        (1 - LAMBDA) * value[:, t + 1] + LAMBDA * following)
    result[:, t] = following
  return result


def weights(live):
  """1 at the start, then the product of the discounts so far."""
  result = np.ones((STARTS, HORIZON + 1))
  for t in range(HORIZON):
    result[:, t + 1] = result[:, t] * live[:, t]
  return result


def context(data, parts, discount=1.0):
  float32 = lambda x: tf.constant(x, tf.float32)
  imagined = losses.Imagined(
      features={'x': float32(data['logits'])}, action=float32(data['action']),
      reward=float32(data['reward']),
      continuation=float32(data['live'] / discount), discount=discount,
      weight=None, value=tf.zeros([1]), slow_value=float32(data['value']),
      returns=tf.zeros([1]))
  flags = tf.zeros([STARTS, 1], tf.bool)
  return losses.Context(
      obs={}, prev_action=None, reward=tf.zeros([STARTS, 1]), is_first=flags,
      is_last=flags, is_terminal=flags, tokens=None, latents=None,
      features={}, parts=parts, discount=0.999, discounted_continue=True,
      lambda_=LAMBDA, imagined=imagined)


def test_lambda_target():
  data = arrays()
  found = losses.lambda_target(*(
      tf.constant(data[k], tf.float32) for k in ('reward', 'live', 'value')),
      LAMBDA)
  np.testing.assert_allclose(
      found, targets(data['reward'], data['live'], data['value']), rtol=1e-5)


@pytest.mark.parametrize('later', [False, True])
@pytest.mark.parametrize('share', [0.0, 0.1, 1.0])
@pytest.mark.parametrize('discount', [1.0, 0.9])
def test_actor_mixed(share, discount, later):
  """Equation 6, and the form of the authors' later code."""
  data = arrays()
  policy = lambda f: distributions.Concatenated(
      [distributions.OneHot(f['x'][..., None, :])])
  mean = lambda f: distributions.UnitNormal(
      tf.constant(data['mean'][:, :f['x'].shape[1]], tf.float32), 0)
  kwargs = {'target_step': 1, 'slow_baseline': True} if later else {}
  loss = actor_mixed.MixedLoss(
      dynamics_share=share, entropy_scale=0.02, **kwargs)
  values, _ = loss(context(
      data, {'actor': policy, 'critic': mean}, discount))
  target = targets(data['reward'], data['live'], data['value'])
  baseline = data['value'] if later else data['mean']
  step = 1 if later else 0
  log_probs = data['logits'] - np.log(
      np.exp(data['logits']).sum(-1, keepdims=True))
  weight = weights(data['live'])
  expected = np.zeros((STARTS, HORIZON - step))
  for n in range(STARTS):
    for t in range(HORIZON - step):
      log_prob = (log_probs[n, t] * data['action'][n, t]).sum()
      entropy = -(np.exp(log_probs[n, t]) * log_probs[n, t]).sum()
      reinforce = log_prob * (target[n, t + step] - baseline[n, t])
      expected[n, t] = -weight[n, t] * (
          (1 - share) * reinforce + share * target[n, t + step]
          + 0.02 * entropy)
  np.testing.assert_allclose(
      values['actor'][:, 0], expected.mean(1), rtol=1e-4)


def test_actor_mixed_knows_two_forms():
  with pytest.raises(errors.UserError, match='target_step'):
    actor_mixed.MixedLoss(target_step=2)


def test_actor_mixed_refuses_a_share_above_one():
  with pytest.raises(errors.UserError, match='dynamics_share'):
    actor_mixed.MixedLoss(dynamics_share=1.5)


def test_critic_target():
  data = arrays()
  mean = tf.constant(data['mean'][:, :-1], tf.float32)
  critic = lambda f: distributions.UnitNormal(mean, 0)
  values, _ = critic_target.TargetCriticLoss()(
      context(data, {'critic': critic}))
  target = targets(data['reward'], data['live'], data['value'])
  error = data['mean'][:, :-1] - target
  expected = weights(data['live'])[:, :-1] * (
      0.5 * error ** 2 + 0.5 * np.log(2 * np.pi))
  np.testing.assert_allclose(
      values['critic'][:, 0], expected.mean(1), rtol=1e-4)


@pytest.mark.parametrize('free, trained', [(0.5, True), (5.0, False)])
def test_free_nats_on_the_average(free, trained):
  raw = tf.constant([[0.0, 1.0], [2.0, 3.0]])
  class Core:
    def kl(self, latents):
      return latents, 2.0 * latents
  with tf.GradientTape() as tape:
    tape.watch(raw)
    class Context:
      parts = {'core': Core()}
      latents = raw
    values, _ = kl.KLLoss(free_nats=free, free_average=True)(Context)
    mean = tf.reduce_mean(values['dynamics'])
  np.testing.assert_allclose(mean, max(free, 1.5))
  np.testing.assert_allclose(
      tape.gradient(mean, raw), np.full((2, 2), 0.25 * trained))
