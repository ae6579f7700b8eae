"""Memory Maze, where to go depends on what was seen long ago."""

import contextlib
import importlib
import os
import sys
from typing import Any

import gymnasium

from dv3 import errors
from dv3 import registry
from dv3.envs import dm
from dv3.envs import extras

SIZES = (9, 11, 13, 15)


@registry.register('env', 'memory_maze')
def make(*, size: int = 9, gl: str = 'egl') -> gymnasium.Env:
  """Makes a maze: a 64x64 picture and the colour of the target.

  Args:
    size: cells a side, one of `SIZES`.
    gl: 'egl' or 'osmesa', how pictures are drawn without a screen.

  Raises:
    UserError: for another size, or if the package is not installed.

  Source: Pasukonis et al. 2022, https://arxiv.org/abs/2210.13383.
  """
  if size not in SIZES:
    raise errors.UserError(
        f'env.memory_maze.size is one of {SIZES}, not {size}')
  os.environ.setdefault('MUJOCO_GL', gl)
  with _gym_is_gymnasium():
    tasks = extras.load('memory_maze.tasks', 'env.memory_maze', 'memory-maze')
  task = getattr(tasks, f'memory_maze_{size}x{size}')
  return MemoryMaze(lambda seed: dm.DMEnv(task(seed=seed)))


class MemoryMaze(gymnasium.Env):
  """Mazes that follow from the seed of a reset; without one, the next maze.

  Args:
    build: function (seed) that makes the environment.
  """

  def __init__(self, build):
    self._build = build
    self._env: gymnasium.Env = build(0)
    self.observation_space = self._env.observation_space
    self.action_space = self._env.action_space

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    if seed is not None:
      # Its generator of mazes takes a seed when it is built.
      self.close()
      self._env = self._build(seed % 2 ** 31)
    return self._env.reset()

  def step(self, action):
    return self._env.step(action)

  def close(self):
    self._env.close()


@contextlib.contextmanager
def _gym_is_gymnasium():
  """Lets a package that imports the old gym find gymnasium in its place."""
  names = ('', '.envs', '.envs.registration', '.spaces')
  before: dict[str, Any] = {
      f'gym{x}': sys.modules.get(f'gym{x}') for x in names}
  try:
    for name in names:
      sys.modules[f'gym{name}'] = importlib.import_module(f'gymnasium{name}')
    yield
  finally:
    for name, module in before.items():
      if module is None:
        sys.modules.pop(name, None)
      else:
        sys.modules[name] = module
