"""The critic's loss of the 2021 form."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry
from dv3.losses import actor_mixed


@registry.register('loss', 'critic_target')
class TargetCriticLoss(tf.Module, interfaces.Loss):
  """The critic on lambda-targets of its slow copy.

    critic = -mean over t < H of sg(weight[t]) log p(sg(V[t]) | state[t])

  one number for each start, [B, T]. V are lambda-targets
  (`losses.lambda_target`) that bootstrap from the slow critic, a hard copy
  every 100 updates in the 2021 form (`Agent.slow_rate = 1.0`,
  `Agent.slow_every = 100`).

  Source: Hafner et al. 2021 (DreamerV2), eq. 4 and 5; danijar/dreamerv2
    0216d33, `critic_loss`.
  """

  PHASE = 'behavior'
  NAMES = ('critic',)

  def __init__(self):
    super().__init__(name='critic_target')

  def __call__(self, context):
    imagined = context.imagined
    stop = tf.stop_gradient
    target = stop(actor_mixed.targets(imagined, context.lambda_))
    features = {k: stop(v[:, :-1]) for k, v in imagined.features.items()}
    dist = context.parts['critic'](features)
    loss = -stop(actor_mixed.weights(imagined)[:, :-1]) * dist.log_prob(target)
    return {'critic': context.per_start(loss)}, {
        'target_imagined': tf.reduce_mean(target),
        'value_imagined': tf.reduce_mean(imagined.value)}
