"""The actor's loss of the 2021 form."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.losses import actor_reinforce
from dv3.losses import returns


@registry.register('loss', 'actor_mixed')
class MixedLoss(tf.Module, interfaces.Loss):
  """REINFORCE, backpropagation through the dynamics, or a mix of both.

    objective = (1 - share) log p(action[t]) sg(V[t + 1] - value[t])
                + share V[t + 1] + entropy_scale entropy
    actor = -mean over t < H - 1 of sg(weight[t]) objective         [B, T]

  V are lambda-targets (`losses.lambda_target`) from the slow critic, `value`
  is the slow critic's, and weight[t] is the discounted probability to get to t,
  1 at the start. Where share is above 0 its gradient trains the actor alone.

  Args:
    dynamics_share: weight of the gradient through the dynamics, in [0, 1]; 0
      is REINFORCE, 1 the dynamics alone. In the paper 1 - rho.
    entropy_scale: weight of the entropy in nats, eta in the paper.

  Raises:
    UserError: for a share outside of [0, 1].

  Source: Hafner et al. 2021 (DreamerV2), eq. 4 and 6; danijar/dreamerv2
    0216d33, `actor_loss`, whose index conventions these are.
  """

  PHASE = 'behavior'
  NAMES = ('actor',)

  def __init__(
      self, *, dynamics_share: float = 0.0, entropy_scale: float = 1e-3):
    super().__init__(name='actor_mixed')
    if not 0.0 <= dynamics_share <= 1.0:
      raise errors.UserError(
          f'loss.actor_mixed.dynamics_share is {dynamics_share}; it is in '
          '[0, 1]')
    self.dynamics_share = dynamics_share
    self.entropy_scale = entropy_scale
    self.imagination_gradient = dynamics_share > 0.0

  def __call__(self, context):
    imagined = context.imagined
    stop = tf.stop_gradient
    share = self.dynamics_share
    target = targets(imagined, context.lambda_)[:, 1:]
    baseline = imagined.slow_value[:, :-2]
    features = {k: stop(v[:, :-2]) for k, v in imagined.features.items()}
    dist = context.parts['actor'](features)
    entropy = dist.entropy()
    advantage = stop(target - baseline)
    objective = self.entropy_scale * entropy
    if share < 1.0:
      action = stop(imagined.action[:, :-2])
      objective += (1.0 - share) * dist.log_prob(action) * advantage
    if share > 0.0:
      objective += share * target
    loss = -stop(weights(imagined)[:, :-2]) * objective
    return {'actor': context.per_start(loss)}, actor_reinforce.metrics(
        imagined, entropy, advantage, tf.constant(1.0))


def targets(imagined, lambda_):
  """Returns the lambda-targets [N, H] of imagined trajectories."""
  live = imagined.continuation * imagined.discount
  return returns.lambda_target(
      imagined.reward, live, imagined.slow_value, lambda_)


def weights(imagined):
  """Returns the discounted probabilities to get to each state, [N, H + 1]."""
  live = imagined.continuation * imagined.discount
  return tf.math.cumprod(live, 1, exclusive=True)
