"""The critic's loss on dreams."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'critic_imagined')
class ImaginedCriticLoss(tf.Module, interfaces.Loss):
  """The critic on lambda-returns of dreams, held close to its slow copy.

    critic = mean over t of sg(weight) (-log p(returns)
                                        - slow_scale log p(slow critic's mean))

  The mean is over the H dreamt steps from each state, [B * T, H] -> [B, T], in
  nats; returns are in units of the reward. Features carry no gradient.

  Args:
    slow_scale: weight of the pull towards the slow critic's mean.

  Source: Hafner et al., Nature 2025, eq. 4 and "Critic learning".
  """

  PHASE = 'behavior'
  NAMES = ('critic',)

  def __init__(self, *, slow_scale: float = 1.0):
    super().__init__(name='critic_imagined')
    self.slow_scale = slow_scale

  def __call__(self, context):
    imagined = context.imagined
    stop = tf.stop_gradient
    returns, slow_value = imagined.returns, imagined.slow_value
    steps = returns.shape[1]
    if imagined.critic is None:
      features = {k: stop(v[:, :-1]) for k, v in imagined.features.items()}
      dist = context.parts['critic'](features)
      slow_value = slow_value[:, :-1]
    else:
      # The last state has no return; what stands in for it is cut off below.
      dist = imagined.critic
      returns = tf.pad(returns, [[0, 0], [0, 1]])
    loss = dist.log_prob(stop(returns))
    loss += self.slow_scale * dist.log_prob(stop(slow_value))
    loss = -stop(imagined.weight[:, :-1]) * loss[:, :steps]
    return {'critic': context.per_start(loss)}, {
        'value_imagined': tf.reduce_mean(imagined.value)}
