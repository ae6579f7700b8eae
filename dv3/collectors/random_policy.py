"""A policy that plays random actions."""

import numpy as np

from dv3 import types


class RandomPolicy:
  """Draws uniform actions; its numbers depend on the call only.

  Args:
    specs: the action entries.
    seed: of the actions.
  """

  def __init__(self, specs: types.Specs, seed: int):
    self._specs = specs
    self._seed = seed

  def initial(self, num_envs: int):
    """Returns no state."""
    del num_envs
    return ()

  def __call__(self, obs, is_first, state, call_index):
    """Returns random actions of every environment."""
    rng = np.random.default_rng((self._seed, call_index))
    count = len(is_first)
    actions = {}
    for name, spec in self._specs.items():
      if spec.classes is not None:
        high = np.reshape(spec.classes, spec.shape)
        actions[name] = rng.integers(
            0, high, (count, *spec.shape)).astype(np.int32)
      else:
        actions[name] = rng.uniform(
            -1, 1, (count, *spec.shape)).astype(np.float32)
    return actions, {}, state
