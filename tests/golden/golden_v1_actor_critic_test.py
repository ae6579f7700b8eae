"""Golden numbers of the 2023 form: returns, actor and critic losses."""

import golden_data
import golden_weights
import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3 import losses
from dv3.losses import actor_backprop
from dv3.losses import actor_reinforce
from dv3.losses import critic_imagined

DATA = golden_data.load('v1_actor_critic')
HORIZON = float(DATA['config/horizon'])
DISCOUNT = 1 - 1 / HORIZON
LAMBDA = float(DATA['config/return_lambda'])
ENTROPY = float(DATA['config/actent'])


def batch_first(name):
  """Returns [N, H + 1, ...] of a time-first array."""
  return tf.constant(np.swapaxes(DATA[name], 0, 1))


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def dream(features=None, action=None):
  """Builds the dream as the agent does with the 2023 form's options."""
  # in/reward[t] arrives with state t + 1; what state 0 brought plays no part.
  reward = tf.pad(batch_first('in/reward'), [[0, 0], [1, 0]])
  continuation = batch_first('in/cont')
  value = distributions.SymlogTwoHot(batch_first('in/value_logits')).mean()
  slow = distributions.SymlogTwoHot(batch_first('in/slow_value_logits')).mean()
  returns = losses.lambda_return(
      reward, continuation * DISCOUNT, tf.fill(reward.shape, LAMBDA), value)
  weight = tf.math.cumprod(DISCOUNT * continuation, 1) / DISCOUNT
  return losses.Imagined(
      features=features, action=action, reward=reward,
      continuation=continuation, discount=DISCOUNT, weight=weight, value=value,
      slow_value=slow, returns=returns)


def context(imagined, parts):
  starts = imagined.reward.shape[0]
  flags = tf.zeros([starts, 1], tf.bool)
  return losses.Context(
      obs={}, prev_action=None, reward=tf.zeros([starts, 1]), is_first=flags,
      is_last=flags, is_terminal=flags, tokens=None, latents=None,
      features={}, parts=parts, discount=DISCOUNT, discounted_continue=False,
      lambda_=LAMBDA, imagined=imagined)


def prepared(loss):
  loss.build({})
  loss.normalizer.low.assign(DATA['retnorm/low_before'])
  loss.normalizer.high.assign(DATA['retnorm/high_before'])
  return loss


def policy(features):
  return distributions.OneHot(features['x'][..., None, :], 0.01)


def test_v1_actor_critic_returns():
  imagined = dream()
  close(imagined.value, batch_first('value_pred'))
  close(imagined.slow_value, batch_first('slow_value_pred'))
  close(imagined.returns, batch_first('lambda_return'))
  close(imagined.value[:, :-1], batch_first('baseline'))
  close(imagined.weight, batch_first('in/weight'))


def test_v1_actor_critic_policy():
  dist = policy({'x': batch_first('in/actor_logits_before_unimix')})
  action = batch_first('in/action_onehot')[..., None, :]
  close(dist.log_probs[..., 0, :], batch_first('actor_logprobs'))
  close(dist.entropy(), batch_first('actor_entropy'))
  close(dist.log_prob(action), batch_first('actor_logp'))


def test_v1_actor_critic_reinforce():
  logits = batch_first('in/actor_logits_before_unimix')
  action = batch_first('in/action_onehot')[..., None, :]
  loss = prepared(actor_reinforce.ReinforceLoss(entropy_scale=ENTROPY))
  with tf.GradientTape() as tape:
    tape.watch(logits)
    # The loss stops gradients into features; logits stand in for the actor.
    make = lambda f: policy({'x': logits[:, :-1]})
    values, _ = loss(context(dream({'x': logits}, action), {'actor': make}))
    mean = tf.reduce_mean(values['actor'])
  close(mean, DATA['actor_reinforce/loss_mean'])
  close(loss.normalizer.low, DATA['retnorm/low_after'])
  close(loss.normalizer.high, DATA['retnorm/high_after'])
  golden_weights.gradients(
      np.swapaxes(tape.gradient(mean, logits), 0, 1),
      DATA['actor_reinforce/loss_mean_grad_actor_logits'])


def test_v1_actor_critic_backprop():
  logits = batch_first('in/actor_logits_before_unimix')
  loss = prepared(actor_backprop.BackpropLoss(entropy_scale=ENTROPY))
  values, _ = loss(context(dream({'x': logits}), {'actor': policy}))
  close(tf.reduce_mean(values['actor']), DATA['actor_backprop/loss_mean'])


def test_v1_actor_critic_critic():
  logits = batch_first('in/value_logits')
  with tf.GradientTape() as tape:
    tape.watch(logits)
    make = lambda f: distributions.SymlogTwoHot(logits[:, :-1])
    values, _ = critic_imagined.ImaginedCriticLoss()(
        context(dream({'x': logits}), {'critic': make}))
    mean = tf.reduce_mean(values['critic'])
  close(mean, DATA['critic_loss_mean'])
  golden_weights.gradients(
      np.swapaxes(tape.gradient(mean, logits), 0, 1),
      DATA['critic_loss_mean_grad_value_logits'])
