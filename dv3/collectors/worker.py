"""Environments in processes of their own; TensorFlow is never loaded here."""

import contextlib
import multiprocessing
import os
import warnings
from concurrent import futures
from concurrent.futures import process
from typing import Any

import gymnasium
from absl import logging
from gymnasium import vector

from dv3 import errors
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
    with contextlib.suppress(OSError):
      # Ctrl-C in a terminal reaches the whole process group, but the trainer
      # needs its environments until it has saved.
      os.setpgid(0, 0)
    env = wrappers.CrashGuard(self._recipe.build)
    env = wrappers.PolicyActions(env)
    env = wrappers.SeededResets(
        env, seed=self._seed, index=self._index, episode=self._episode)
    if self._actions:
      env = wrappers.Resume(env, self._actions)
    return wrappers.AutoReset(env)


class Processes(vector.AsyncVectorEnv):
  """The processes, as their parent sees them.

  A worker's error is raised without its traceback being printed first.
  """

  def _raise_if_errors(self, successes):
    if all(successes):
      return
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter('always')
      try:
        super()._raise_if_errors(successes)
      finally:
        for warning in caught:
          logging.debug('%s', warning.message)


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
  # An executor, as a Pool would wait forever for a process that crashed.
  context = multiprocessing.get_context('spawn')
  with futures.ProcessPoolExecutor(1, mp_context=context) as pool:
    try:
      return pool.submit(_probe, recipe).result()
    except process.BrokenProcessPool as error:
      raise errors.UserError(
          f'the process that built {recipe.kind}.{recipe.name} died; try the '
          'environment alone in Python, and check its graphics libraries and '
          'memory') from error


def _probe(recipe):
  try:
    env = recipe.build()
  except errors.UserError:
    raise
  except Exception as error:
    raise errors.UserError(
        f'{recipe.kind}.{recipe.name} could not be built: {error!r}; check its '
        f'arguments {recipe.kwargs}') from error
  try:
    return (
        env.observation_space, wrappers.PolicyActions(env).action_space,
        spaces.observation_specs(env.observation_space),
        spaces.action_specs(env.action_space))
  finally:
    env.close()
