"""Noise on the actions of a policy while it collects."""

import numpy as np

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.collectors import random_policy


@registry.register('exploration', 'noise')
class NoiseExploration(interfaces.Exploration):
  """Epsilon-greedy for classes, Gaussian noise for numbers.

  Each element of an entry of classes becomes, with probability `amount`, a
  uniform one of its classes. Numbers in [-1, 1] get noise of standard deviation
  `amount` and are clipped again.

  The amount moves in a straight line from `amount` to `final_amount` over the
  first `decay_env_steps` env steps, and stays there.

  Args:
    action_spec: the action entries.
    seed: of the noise.
    amount: at first, in [0, 1].
    final_amount: at last, in [0, 1]; None leaves `amount` as it is.
    decay_env_steps: over how many env steps, over all environments.

  Raises:
    UserError: for a number outside of its range, or one of the last two
      without the other.

  Source: danijar/dreamerv2 0216d33, `action_noise`, with 0 in its
    configurations; 0.3 for numbers: Hafner et al. 2019 (arXiv 1912.01603).
  """

  COMPONENT = 'exploration.noise'

  def __init__(
      self, *, action_spec: types.Specs, seed: int, amount: float = 0.3,
      final_amount: float | None = None, decay_env_steps: int = 0):
    last = amount if final_amount is None else final_amount
    errors.check_within(0, 1, errors.named(
        self.COMPONENT, amount=amount, final_amount=last))
    errors.check_least(0, errors.named(
        self.COMPONENT, decay_env_steps=decay_env_steps))
    if (final_amount is None) == bool(decay_env_steps):
      raise errors.UserError(
          f'{self.COMPONENT}.final_amount is {final_amount} and '
          f'decay_env_steps {decay_env_steps}; a decay needs both, so set the '
          'other too, or leave both out')
    self._specs = action_spec
    self._seed = seed
    self._amounts = amount, last
    self._decay_env_steps = decay_env_steps

  def __call__(self, actions, env_steps):
    rng = np.random.default_rng((self._seed, env_steps))
    amount = self._amount(env_steps)
    return {
        name: _disturbed(actions[name], spec, amount, rng)
        for name, spec in self._specs.items()}

  def _amount(self, env_steps):
    """Returns the amount after so many env steps."""
    if not self._decay_env_steps:
      return self._amounts[0]
    share = min(1.0, env_steps / self._decay_env_steps)
    return (1.0 - share) * self._amounts[0] + share * self._amounts[1]


def _disturbed(action, spec, amount, rng):
  """Returns one entry [n, ...] with noise."""
  if spec.classes is None:
    noise = amount * rng.standard_normal(action.shape, np.float32)
    return np.clip(action + noise, -1.0, 1.0)
  uniform = random_policy.draw(spec, len(action), rng)
  return np.where(rng.random(action.shape) < amount, uniform, action)
