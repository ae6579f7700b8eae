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
    actions = {
        name: draw(spec, len(is_first), rng)
        for name, spec in self._specs.items()}
    return actions, {}, state


def draw(spec: types.Spec, count: int, rng):
  """Returns uniform values of an action entry.

  Args:
    spec: the entry; numbers are in [-1, 1].
    count: n.
    rng: numpy.random.Generator.

  Returns:
    [n, *spec.shape], int32 classes or float32.
  """
  shape = (count, *spec.shape)
  if spec.classes is None:
    return rng.uniform(-1, 1, shape).astype(np.float32)
  return rng.integers(
      0, np.reshape(spec.classes, spec.shape), shape).astype(np.int32)
