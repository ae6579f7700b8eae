"""From dm_env environments to gymnasium."""

from typing import Any

import gymnasium
import numpy as np


class DMEnv(gymnasium.Env):
  """A dm_env environment as a `gymnasium.Env`.

  An episode that ends with discount 0 is terminal; one that ends with another
  is truncated. Missing rewards are 0.

  Args:
    env: a `dm_env.Environment`.
    seed: function (seed) that seeds the next episode, or None where the suite
      seeds only when it builds.
  """

  def __init__(self, env: Any, seed=None):
    self._env = env
    self._seed = seed
    self.observation_space = space_of(env.observation_spec())
    self.action_space = space_of(env.action_spec())

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    if seed is not None and self._seed is not None:
      self._seed(seed)
    return self._observe(self._env.reset()), {}

  def step(self, action):
    if isinstance(self.action_space, gymnasium.spaces.Box):
      action = np.asarray(action, self._env.action_spec().dtype)
    step = self._env.step(action)
    last = step.last()
    terminated = last and step.discount == 0.0
    return (
        self._observe(step), float(step.reward or 0.0), bool(terminated),
        bool(last and not terminated), {})

  def _observe(self, step):
    return _convert(self.observation_space, step.observation)

  def close(self):
    self._env.close()


def space_of(spec) -> gymnasium.Space:
  """Returns the space of a dm_env spec or a dict of them; floats as float32.

  Scalars become arrays of one element.
  """
  if isinstance(spec, dict):
    return gymnasium.spaces.Dict({k: space_of(v) for k, v in spec.items()})
  if hasattr(spec, 'num_values'):
    return gymnasium.spaces.Discrete(int(spec.num_values))
  shape = spec.shape or (1,)
  if spec.dtype == np.uint8:
    return gymnasium.spaces.Box(0, 255, shape, np.uint8)
  low = getattr(spec, 'minimum', -np.inf)
  high = getattr(spec, 'maximum', np.inf)
  full = lambda x: np.broadcast_to(x, shape).astype(np.float32)
  return gymnasium.spaces.Box(full(low), full(high), shape, np.float32)


def _convert(space, value):
  """Gives an observation the shapes and dtypes of its space."""
  if isinstance(space, gymnasium.spaces.Dict):
    return {k: _convert(space[k], value[k]) for k in space}
  if isinstance(space, gymnasium.spaces.Discrete):
    return np.int64(value)
  return np.asarray(value, space.dtype).reshape(space.shape)


class Pixels(gymnasium.Env):
  """Shows what a function renders in place of the observation.

  Args:
    env: the environment.
    render: function () -> uint8 [rows, columns, 3].
    size: (rows, columns).
  """

  def __init__(self, env: gymnasium.Env, render, size: tuple[int, int]):
    self._env = env
    self._render = render
    self.action_space = env.action_space
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (*size, 3), np.uint8)

  def reset(self, *, seed=None, options=None):
    _, info = self._env.reset(seed=seed, options=options)
    return self._render(), info

  def step(self, action):
    _, reward, terminated, truncated, info = self._env.step(action)
    return self._render(), reward, terminated, truncated, info

  def close(self):
    self._env.close()
