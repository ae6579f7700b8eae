"""Golden numbers: lambda-returns, the actor's and the critics' losses."""

import golden_data
import golden_weights
import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3 import losses
from dv3.losses import actor_reinforce
from dv3.losses import critic_imagined
from dv3.losses import critic_replay
from dv3.normalizers import percentile

DATA = golden_data.load('returns')
HORIZON = 333
DISCOUNT = 1 - 1 / HORIZON
LAMBDA = 0.95


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def get(prefix, *names):
  return [tf.constant(DATA[f'{prefix}/{n}'], tf.float32) for n in names]


def test_returns_lambda_return():
  last, term, reward, boot = get(
      'lambda_return', 'last', 'term', 'rew', 'boot')
  discount, lambda_ = DATA['lambda_return/disc_lam']
  actual = losses.lambda_return(
      reward, (1 - term) * discount, (1 - last) * lambda_, boot)
  close(actual, DATA['lambda_return/ret'])
  soft, = get('lambda_return', 'soft_term')
  actual = losses.lambda_return(
      reward, 1 - soft, tf.fill(reward.shape, lambda_), boot)
  close(actual, DATA['lambda_return/ret_soft_term_disc1'])


class Stub:
  """A head that returns a distribution over the features' own values."""

  def __init__(self, make):
    self.make = make

  def __call__(self, features):
    return self.make(features)


class Normal:
  """A normal with given mean and standard deviation, as a head's result."""

  def __init__(self, mean, stddev):
    self.mean, self.stddev = mean, stddev

  def log_prob(self, x):
    variance = tf.square(self.stddev)
    return tf.reduce_sum(
        -0.5 * tf.square(x - self.mean) / variance
        - 0.5 * tf.math.log(2 * np.pi * variance), -1)

  def entropy(self):
    return tf.reduce_sum(
        0.5 * tf.math.log(2 * np.pi * tf.square(self.stddev)) + 0.5, -1)


def imagined(case, features, action):
  """Builds the dream as the agent does, from the file's predictions."""
  reward, continuation, value, slow = get(
      'imag', 'rew', 'con', 'value_pred', 'slow_value_pred')
  discount = DISCOUNT if case == 'nocontdisc' else 1.0
  target = slow if case == 'contdisc_slowtar' else value
  returns = losses.lambda_return(
      reward, continuation * discount, tf.fill(reward.shape, LAMBDA), target)
  weight = tf.math.cumprod(discount * continuation, 1) / discount
  return losses.Imagined(
      features=features, action=action, reward=reward,
      continuation=continuation, discount=discount, weight=weight,
      value=target, slow_value=slow, returns=returns)


def context(dream, parts):
  starts = dream.reward.shape[0]
  flags = tf.zeros([starts, 1], tf.bool)
  return losses.Context(
      obs={}, prev_action=None, reward=tf.zeros([starts, 1]), is_first=flags,
      is_last=flags, is_terminal=flags, tokens=None, latents=None,
      features={}, parts=parts, discount=DISCOUNT, discounted_continue=True,
      lambda_=LAMBDA, imagined=dream)


def actor_loss():
  loss = actor_reinforce.ReinforceLoss()
  loss.build({})
  assert isinstance(loss.normalizer, percentile.PercentileNormalizer)
  loss.normalizer.low.assign(DATA['imag/retnorm_lo_before'])
  loss.normalizer.high.assign(DATA['imag/retnorm_hi_before'])
  return loss


CASES = ['contdisc', 'nocontdisc', 'contdisc_slowtar']


@pytest.mark.parametrize('case', CASES)
def test_returns_actor_discrete(case):
  logits = tf.constant(DATA['imag/policy_logits'])
  action = tf.one_hot(DATA['imag/action'], logits.shape[-1])[..., None, :]
  # The loss stops gradients into features; logits stand in for the actor.
  make = lambda f: distributions.OneHot(logits[:, :-1, None, :])
  loss = actor_loss()
  with tf.GradientTape() as tape:
    tape.watch(logits)
    dream = imagined(case, {'x': logits}, action)
    values, _ = loss(context(dream, {'actor': Stub(make)}))
    mean = tf.reduce_mean(values['actor'])
  close(dream.returns, DATA[f'imag/{case}/ret'])
  close(dream.weight[:, :-1], DATA[f'imag/{case}/weight'])
  close(values['actor'][:, 0], DATA[f'imag/{case}/policy_loss'].mean(1))
  close(loss.normalizer.low, DATA[f'imag/{case}/retnorm_lo_after'])
  close(loss.normalizer.high, DATA[f'imag/{case}/retnorm_hi_after'])
  golden_weights.gradients(
      tape.gradient(mean, logits),
      DATA[f'imag/{case}/policy_loss_mean_grad_policy_logits'])


@pytest.mark.parametrize('case', CASES)
def test_returns_actor_continuous(case):
  mean, stddev = get('imag', 'cont_mean', 'cont_std')
  action, = get('imag', 'cont_action')
  make = lambda f: Normal(mean[:, :-1], stddev[:, :-1])
  loss = actor_loss()
  with tf.GradientTape() as tape:
    tape.watch([mean, stddev])
    dream = imagined(case, {'mean': mean, 'stddev': stddev}, action)
    values, _ = loss(context(dream, {'actor': Stub(make)}))
    total = tf.reduce_mean(values['actor'])
  close(values['actor'][:, 0], DATA[f'imag/{case}/cont_policy_loss'].mean(1))
  grads = tape.gradient(total, [mean, stddev])
  for grad, name in zip(grads, ('mean', 'std'), strict=True):
    golden_weights.gradients(
        grad, DATA[f'imag/{case}/cont_policy_loss_mean_grad_{name}'])


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_returns_critic_imagined(case, shared):
  logits = tf.constant(DATA['imag/value_logits'])
  with tf.GradientTape() as tape:
    tape.watch(logits)
    # The loss stops gradients into features; logits stand in for the critic.
    dream = imagined(case, {'x': logits}, None)
    make = lambda f: distributions.TwoHot(logits[:, :-1], DATA['imag/bins'])
    if shared:  # The agent's own pass over all states, the last one included.
      dream = dream._replace(
          critic=distributions.TwoHot(logits, DATA['imag/bins']))
    values, _ = critic_imagined.ImaginedCriticLoss()(
        context(dream, {'critic': Stub(make)}))
    mean = tf.reduce_mean(values['critic'])
  close(values['critic'][:, 0], DATA[f'imag/{case}/value_loss'].mean(1))
  golden_weights.gradients(
      tape.gradient(mean, logits),
      DATA[f'imag/{case}/value_loss_mean_grad_value_logits'])


@pytest.mark.parametrize('case', ['default', 'slowtar'])
def test_returns_critic_replay(case):
  logits, slow_logits = get('repl', 'value_logits', 'slow_value_logits')
  reward, boot = get('repl', 'rew', 'boot')
  last, term = (
      tf.constant(DATA[f'repl/{n}'].astype(bool)) for n in ('last', 'term'))
  bins = DATA['imag/bins']
  dream = losses.Imagined(
      *[None] * 8, returns=tf.reshape(boot, [-1, 1]))
  dream_context = context(
      dream._replace(reward=reward), {
          'critic': Stub(lambda f: distributions.TwoHot(f['x'], bins)),
          'slow_critic': Stub(
              lambda f: distributions.TwoHot(slow_logits[:, :-1], bins))})
  with tf.GradientTape() as tape:
    tape.watch(logits)
    values, _ = critic_replay.ReplayCriticLoss()(dream_context._replace(
        features={'x': logits}, reward=reward, is_last=last,
        is_terminal=term))
    mean = tf.reduce_mean(values['critic_replay'])
  close(values['critic_replay'], DATA[f'repl/{case}/loss'])
  golden_weights.gradients(
      tape.gradient(mean, logits),
      DATA[f'repl/{case}/loss_mean_grad_value_logits'])
