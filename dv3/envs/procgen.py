"""Procgen, games whose levels are generated."""

from typing import Any

import gymnasium
import numpy as np

from dv3 import errors
from dv3 import registry
from dv3.envs import extras

GAMES = (
    'bigfish', 'bossfight', 'caveflyer', 'chaser', 'climber', 'coinrun',
    'dodgeball', 'fruitbot', 'heist', 'jumper', 'leaper', 'maze', 'miner',
    'ninja', 'plunder', 'starpilot')
MODES = ('easy', 'hard')


@registry.register('env', 'procgen')
def make(
    *, game: str = 'coinrun', mode: str = 'hard', num_levels: int = 0,
    start_level: int = 0) -> gymnasium.Env:
  """Makes a Procgen game: 64x64 images and 15 actions, by envpool.

  Args:
    game: one of `GAMES`.
    mode: 'easy' or 'hard', which is the published one.
    num_levels: different levels; 0 for as many as there are seeds.
    start_level: the first of them.

  Raises:
    UserError: for another game or mode, or if the package is not installed.

  Source: Cobbe et al. 2020, https://arxiv.org/abs/1912.01588.
  """
  if game not in GAMES or mode not in MODES:
    raise errors.UserError(
        f'env.procgen.game is one of {GAMES}, env.procgen.mode one of {MODES}; '
        f'not {game!r} and {mode!r}')
  envpool = extras.load('envpool', 'env.procgen', 'procgen')
  def build(seed):
    try:
      return envpool.make(
          f'{game.capitalize()}{mode.capitalize()}-v0', env_type='gymnasium',
          num_envs=1, num_threads=1, seed=seed, num_levels=num_levels,
          start_level=start_level)
    except KeyError as error:
      # Its C++ part is left out where a system library is missing.
      raise errors.UserError(
          f'envpool has no {game} here ({error}); apt-get install '
          'libqt5core5a libqt5gui5') from error
  return Procgen(build)


class Procgen(gymnasium.Env):
  """One environment of a pool, which starts episodes by itself.

  Args:
    build: function (seed) that makes a pool of one environment.
  """

  def __init__(self, build):
    self._build = build
    self._env: Any = build(0)
    channels, *size = self._env.observation_space.shape
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (*size, channels), np.uint8)
    self.action_space = gymnasium.spaces.Discrete(
        int(self._env.action_space.n))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    if seed is not None:
      # A pool takes its seed when it is built.
      self.close()
      self._env = self._build(seed % 2 ** 31)
    obs, _ = self._env.reset()
    return self._observe(obs), {}

  def step(self, action):
    obs, reward, terminated, truncated, _ = self._env.step(
        np.array([int(action)], np.int32))
    return (
        self._observe(obs), float(reward[0]), bool(terminated[0]),
        bool(truncated[0] and not terminated[0]), {})

  def close(self):
    self._env.close()

  def _observe(self, obs):
    """Copies [1, ch, Y, X], which is the pool's own memory, as [Y, X, ch]."""
    return np.moveaxis(obs[0], 0, -1).copy()
