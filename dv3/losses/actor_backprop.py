"""The actor's loss by backpropagation through the dynamics."""

from collections.abc import Callable

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry
from dv3.losses import actor_reinforce


@registry.register('loss', 'actor_backprop')
class BackpropLoss(tf.Module, interfaces.Loss):
  """Maximises imagined returns by their gradient through the dynamics.

    advantage = (returns - value) / scale
    actor = mean over t of
        sg(weight) (-advantage - entropy_scale entropy)

  The mean is over the H dreamt steps from each state, [B * T, H] -> [B, T].
  The gradient of the advantage runs back through critic, reward head and
  dynamics to the actions, and trains the actor alone.

  Args:
    entropy_scale: weight of the entropy in nats.
    normalizer: factory of the return normalizer; percentiles by default.

  Source: Hafner et al. 2023 (arXiv v1), eq. 11, for continuous actions; PyPI
    dreamerv3 1.5.0, `actor_grad_cont: backprop`.
  """

  PHASE = 'behavior'
  NAMES = ('actor',)
  imagination_gradient = True
  across_replicas = 'throughout'

  def __init__(
      self, *, entropy_scale: float = 3e-4,
      normalizer: Callable | None = None):
    super().__init__(name='actor_backprop')
    self.entropy_scale = entropy_scale
    normalizer = normalizer or registry.get('normalizer', 'percentile')
    self.normalizer = normalizer()

  def build(self, parts):
    del parts
    self.normalizer.build()

  def __call__(self, context):
    imagined = context.imagined
    stop = tf.stop_gradient
    _, scale = self.normalizer.update(stop(imagined.returns))
    advantage = (imagined.returns - imagined.value[:, :-1]) / scale
    features = {k: stop(v[:, :-1]) for k, v in imagined.features.items()}
    entropy = context.parts['actor'](features).entropy()
    loss = stop(imagined.weight[:, :-1]) * -(
        advantage + self.entropy_scale * entropy)
    return {'actor': context.per_start(loss)}, actor_reinforce.metrics(
        imagined, entropy, advantage, scale)
