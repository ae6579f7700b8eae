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

    objective = (1 - share) log p(action[t]) sg(V[t] - value[t])
                + share V[t] + entropy_scale entropy
    actor = -mean over t < H of sg(weight[t]) objective             [B, T]

  V are lambda-targets (`losses.lambda_target`) from the slow critic, `value`
  is the critic's, and weight[t] is the discounted probability to get to t,
  1 at the start. Where share is above 0 its gradient trains the actor alone.

  The authors' later code takes the target of the next state, V[t + 1], with
  the slow critic's value[t] for t < H - 1: `target_step = 1` and
  `slow_baseline = True`.

  Args:
    dynamics_share: weight of the gradient through the dynamics, in [0, 1]; 0
      is REINFORCE, 1 the dynamics alone. In the paper 1 - rho.
    entropy_scale: weight of the entropy in nats, eta in the paper.
    target_step: 0 where V[t] judges action[t], 1 where V[t + 1] does.
    slow_baseline: whether the baseline is the slow critic's.

  Raises:
    UserError: for a share outside of [0, 1] or another target_step.

  Source: Hafner et al. 2021 (DreamerV2), eq. 4 (targets) and 6 (objective);
    danijar/dreamerv2 0216d33, `actor_loss`; 07d906e for the later one.
  """

  PHASE = 'behavior'
  NAMES = ('actor',)

  def __init__(
      self, *, dynamics_share: float = 0.0, entropy_scale: float = 1e-3,
      target_step: int = 0, slow_baseline: bool = False):
    super().__init__(name='actor_mixed')
    if not 0.0 <= dynamics_share <= 1.0:
      raise errors.UserError(
          f'loss.actor_mixed.dynamics_share is {dynamics_share}; it is in '
          '[0, 1]')
    if target_step not in (0, 1):
      raise errors.UserError(
          f'loss.actor_mixed.target_step is {target_step}; it is 0 or 1')
    self.target_step = target_step
    self.slow_baseline = slow_baseline
    self.dynamics_share = dynamics_share
    self.entropy_scale = entropy_scale
    self.imagination_gradient = dynamics_share > 0.0

  def __call__(self, context):
    imagined = context.imagined
    stop = tf.stop_gradient
    share = self.dynamics_share
    target = targets(imagined, context.lambda_)[:, self.target_step:]
    count = imagined.reward.shape[1] - 1 - self.target_step
    if count < 1:
      raise errors.UserError(
          'loss.actor_mixed.target_step = 1 needs two imagined steps; raise '
          'Agent.imagination_horizon to 2 or more')
    features = {k: stop(v[:, :count]) for k, v in imagined.features.items()}
    if self.slow_baseline:
      baseline = imagined.slow_value[:, :count]
    else:
      baseline = context.parts['critic'](features).mean()
    dist = context.parts['actor'](features)
    entropy = dist.entropy()
    advantage = stop(target - baseline)
    objective = self.entropy_scale * entropy
    if share < 1.0:
      action = stop(imagined.action[:, :count])
      objective += (1.0 - share) * dist.log_prob(action) * advantage
    if share > 0.0:
      objective += share * target
    loss = -stop(weights(imagined)[:, :count]) * objective
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
