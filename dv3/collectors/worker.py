"""What runs in the environments' processes; TensorFlow is never loaded here."""

import multiprocessing
import os
from typing import Any

import gymnasium

from dv3 import types
from dv3.envs import spaces
from dv3.envs import wrappers


class Make:
  """Builds one environment, wrapped, in its worker; picklable.

  gymnasium's AsyncVectorEnv also calls it once in the main process, to look at
  the spaces: there it returns an environment that has nothing but them.

  Args:
    recipe: what to build.
    seed: of the run.
    index: of the environment.
    known: (observation space, action space) of the wrapped environment.
    episode: number of the next episode.
    actions: the policy's actions of an episode to continue.
  """

  def __init__(
      self, recipe: types.Recipe, *, seed: int, index: int, known=None,
      episode: int = 0, actions: list[dict[str, Any]] | None = None):
    self._recipe = recipe
    self._seed = seed
    self._index = index
    self._known = known
    self._episode = episode
    self._actions = actions
    self._parent = os.getpid()

  def __call__(self) -> gymnasium.Env:
    """Builds the environment."""
    if os.getpid() == self._parent and self._known is not None:
      return _Spaces(*self._known)
    env = wrappers.CrashGuard(self._recipe.build)
    env = wrappers.PolicyActions(env)
    env = wrappers.SeededResets(
        env, seed=self._seed, index=self._index, episode=self._episode)
    if self._actions:
      env = wrappers.Resume(env, self._actions)
    return wrappers.AutoReset(env)


class _Spaces(gymnasium.Env):
  """Stands in for an environment where only its spaces are asked for."""

  def __init__(self, observation_space, action_space):
    self.observation_space = observation_space
    self.action_space = action_space


def probe(recipe: types.Recipe):
  """Builds an environment in a worker and returns its spaces.

  Returns:
    (observation space, action space of the wrapped environment, observation
    specs, action specs).

  Raises:
    UserError: if the environment cannot be built or represented.
  """
  context = multiprocessing.get_context('spawn')
  with context.Pool(1) as pool:
    return pool.apply(_probe, (recipe,))


def _probe(recipe):
  env = recipe.build()
  try:
    return (
        env.observation_space, wrappers.PolicyActions(env).action_space,
        spaces.observation_specs(env.observation_space),
        spaces.action_specs(env.action_space))
  finally:
    env.close()
