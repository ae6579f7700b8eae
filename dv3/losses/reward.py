"""The reward loss."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'reward')
class RewardLoss(tf.Module, interfaces.Loss):
  """The reward head's negative log-likelihood, [B, T] in nats.

    reward = -log p(reward | features)

  Rewards are in environment units, as replay has them; `reward_error` is the
  mean absolute error in these units.

  Source: Hafner et al., Nature 2025, eq. 3.
  """

  NAMES = ('reward',)

  def __init__(self):
    super().__init__(name='reward')

  def __call__(self, context):
    dist = context.parts['reward'](context.features)
    error = tf.abs(dist.mean() - context.reward)
    return {'reward': -dist.log_prob(context.reward)}, {
        'reward_error': tf.reduce_mean(error)}
