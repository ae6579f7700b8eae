"""The actor's loss."""

from collections.abc import Callable

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'actor_reinforce')
class ReinforceLoss(tf.Module, interfaces.Loss):
  """REINFORCE with percentile-normalised returns and an entropy bonus.

    advantage = (returns - value) / scale
    actor = mean over t of
        sg(weight) (-log p(action) sg(advantage) - entropy_scale entropy)

  for discrete and continuous actions alike, [B * T, H] -> [B, T] in nats.
  `scale` comes from the normalizer, which takes in the returns before it is
  used; its offset is not subtracted. With an advantage normalizer the advantage
  is centred and scaled once more, (advantage - offset) / scale: while returns
  grow, a critic that lags behind them makes nearly every advantage positive,
  which is noise in the gradient.

  Args:
    entropy_scale: weight of the entropy in nats, against advantages as they are
      used.
    normalizer: factory of the return normalizer; percentiles by default.
    advantage_normalizer: factory of the normalizer of advantages; None, as
      published, leaves them.

  Source: Hafner et al., Nature 2025, eq. 6 and 7; danijar/dreamerv3 e3f0224,
    `imag_loss` (`retnorm`, and `advnorm`, which is off there).
  """

  PHASE = 'behavior'
  NAMES = ('actor',)
  across_replicas = 'statistics'

  def __init__(
      self, *, entropy_scale: float = 3e-4,
      normalizer: Callable | None = None,
      advantage_normalizer: Callable | None = None):
    super().__init__(name='actor_reinforce')
    self.entropy_scale = entropy_scale
    normalizer = normalizer or registry.get('normalizer', 'percentile')
    self.normalizer = normalizer()
    self.advantage_normalizer = (advantage_normalizer or registry.get(
        'normalizer', 'none'))()

  def build(self, parts):
    del parts
    self.normalizer.build()
    self.advantage_normalizer.build()

  def statistics(self, context):
    imagined = context.imagined
    _, scale = self.normalizer.update(tf.stop_gradient(imagined.returns))
    offset, spread = self.advantage_normalizer.update(
        tf.stop_gradient(_advantage(imagined, scale)))
    return tf.nest.map_structure(
        tf.convert_to_tensor, (scale, offset, spread))

  def __call__(self, context):
    imagined = context.imagined
    stop = tf.stop_gradient
    scale, offset, spread = (
        context.statistics or self.statistics(context))
    advantage = _advantage(imagined, scale)
    centred = (advantage - offset) / spread
    if imagined.actor is None:
      features = {k: stop(v[:, :-1]) for k, v in imagined.features.items()}
      dist = context.parts['actor'](features)
      log_prob = dist.log_prob(stop(imagined.action[:, :-1]))
      entropy = dist.entropy()
    else:
      log_prob = imagined.actor.log_prob(stop(imagined.action))[:, :-1]
      entropy = imagined.actor.entropy()[:, :-1]
    loss = stop(imagined.weight[:, :-1]) * -(
        log_prob * stop(centred) + self.entropy_scale * entropy)
    return {'actor': context.per_start(loss)}, metrics(
        imagined, entropy, advantage, scale)


def _advantage(imagined, scale):
  """Returns the advantages [N, H] in units of the returns' scale."""
  return (imagined.returns - imagined.value[:, :-1]) / scale


def metrics(imagined, entropy, advantage, scale):
  """Returns what every actor loss reports, {metric: scalar}."""
  return {
      'actor_entropy_nats': tf.reduce_mean(entropy),
      'advantage': tf.reduce_mean(advantage),
      'advantage_magnitude': tf.reduce_mean(tf.abs(advantage)),
      'return_imagined': tf.reduce_mean(imagined.returns),
      'return_scale': scale,
      'continue_imagined': tf.reduce_mean(imagined.continuation),
      'reward_imagined': tf.reduce_mean(imagined.reward)}
