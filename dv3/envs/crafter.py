"""Crafter, a survival game in a generated world."""

import gymnasium
import numpy as np

from dv3 import registry
from dv3.envs import extras


@registry.register('env', 'crafter')
def make(
    *, size: tuple[int, int] = (64, 64), reward: bool = True,
    length: int = 10_000) -> gymnasium.Env:
  """Makes Crafter: images, 17 actions, 22 achievements.

  At an episode's end `log/achievement/<name>` is 1 for what was achieved; the
  published score is the geometric mean of these shares, in percent, less 1.

  Args:
    size: rows and columns of the observation.
    reward: whether achievements earn reward.
    length: env steps until truncation.

  Raises:
    UserError: if the package is not installed.

  Source: Hafner 2021, https://arxiv.org/abs/2109.06780.
  """
  crafter = extras.load('crafter', 'env.crafter', 'crafter')
  return Crafter(crafter.Env(size=size, reward=reward, length=length), size)


class Crafter(gymnasium.Env):
  """Crafter's own interface as gymnasium's."""

  def __init__(self, env, size):
    self._env = env
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (*size, 3), np.uint8)
    self.action_space = gymnasium.spaces.Discrete(int(env.action_space.n))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    if seed is not None:
      # Its worlds come from (seed, episode); it has no way to set them.
      self._env._seed = seed
      self._env._episode = 0
    return np.asarray(self._env.reset(), np.uint8), {}

  def step(self, action):
    obs, reward, done, info = self._env.step(int(action))
    terminated = bool(done and info['discount'] == 0)
    extra = {
        f'log/achievement/{name}': float(count > 0)
        for name, count in info['achievements'].items()} if done else {}
    return (
        np.asarray(obs, np.uint8), float(reward), terminated,
        bool(done and not terminated), extra)
