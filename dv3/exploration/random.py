"""Random actions in place of a policy's."""

from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.collectors import random_policy


@registry.register('exploration', 'random')
class RandomExploration(interfaces.Exploration):
  """Collects uniform random actions all along, whatever the policy says.

  For baselines, and to train a world model and a policy on random data. Numbers
  are uniform in [-1, 1], classes uniform. Evaluation plays the policy.

  Args:
    action_spec: the action entries.
    seed: of the actions.
  """

  def __init__(self, *, action_spec: types.Specs, seed: int):
    self._policy = random_policy.RandomPolicy(action_spec, seed)

  def __call__(self, actions, env_steps):
    first = next(iter(actions.values()))
    return self._policy(None, first, (), env_steps)[0]
