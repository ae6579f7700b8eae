"""The critic's loss on replayed sequences."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry
from dv3.losses import returns as returns_lib


@registry.register('loss', 'critic_replay')
class ReplayCriticLoss(tf.Module, interfaces.Loss):
  """The critic on lambda-returns of the replayed sequence.

    returns = lambda_return(reward, discount (1 - is_terminal),
                            lambda (1 - is_last), bootstrap)
    critic_replay[t] = (1 - is_last[t]) (-log p(returns[t])
                                         - slow_scale log p(slow mean[t]))

  for t = 0 .. T - 2: [B, T - 1]. The bootstrap at each step is the imagined
  return of that state. The gradient flows into the world model. Its scale (0.3
  in the 2025 form) belongs to the balancer.

  Args:
    slow_scale: weight of the pull towards the slow critic's mean.

  Source: Hafner et al., Nature 2025, "Critic learning"; danijar/dreamerv3
    e3f0224, `repl_loss`.
  """

  PHASE = 'behavior'
  NAMES = ('critic_replay',)

  def __init__(self, *, slow_scale: float = 1.0):
    super().__init__(name='critic_replay')
    self.slow_scale = slow_scale

  def __call__(self, context):
    is_last = tf.cast(context.is_last, tf.float32)
    live = 1.0 - tf.cast(context.is_terminal, tf.float32)
    bootstrap = tf.reshape(
        context.imagined.returns[:, 0], tf.shape(context.reward))
    returns = returns_lib.lambda_return(
        context.reward, live * context.discount,
        (1.0 - is_last) * context.lambda_, bootstrap)
    features = {k: v[:, :-1] for k, v in context.features.items()}
    dist = context.parts['critic'](features)
    slow = context.parts['slow_critic'](features).mean()
    loss = dist.log_prob(tf.stop_gradient(returns))
    loss += self.slow_scale * dist.log_prob(tf.stop_gradient(slow))
    # Of one step nothing follows, and nothing has no mean.
    metrics = {} if returns.shape[1] == 0 else {
        'return_replay': tf.reduce_mean(returns)}
    return {'critic_replay': -(1.0 - is_last[:, :-1]) * loss}, metrics
