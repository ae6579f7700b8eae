"""What components without tensors must do."""

import math
import warnings

import numpy as np
from gymnasium.utils import env_checker

from dv3 import types
from dv3.envs import spaces
from dv3.testing import small


def sampler_draws_what_is_stored(kind, name, kwargs):
  """Only stored items are drawn, and a restored sampler draws alike."""
  del kind
  make = lambda: small.make('sampler', name, kwargs)
  sampler = make()
  sampler.add(np.arange(0, 30))
  sampler.remove(np.arange(0, 10))
  rng = np.random.default_rng(0)
  items = sampler.sample(200, rng)
  assert items.min() >= 10 and items.max() < 30
  batch = items[:5]
  ends = batch[:, None] + np.arange(3)
  sampler.update(batch, {'loss': np.abs(rng.normal(size=(5, 3)))}, ends)
  other = make()
  other.load(sampler.state(), np.arange(10, 30))
  np.testing.assert_array_equal(
      sampler.sample(50, np.random.default_rng(1)),
      other.sample(50, np.random.default_rng(1)))


def env_keeps_gymnasiums_contract(kind, name, kwargs):
  """Gymnasium's checker passes, spaces can be represented, seeds repeat."""
  del kind
  make = lambda: small.make('env', name, kwargs)
  env = make()
  with warnings.catch_warnings():
    # It warns of wrappers, which env components are free to use.
    warnings.simplefilter('ignore', UserWarning)
    env_checker.check_env(env, skip_render_check=True)
  specs = spaces.observation_specs(env.observation_space)
  spaces.action_specs(env.action_space)
  other = make()
  first, _ = env.reset(seed=5)
  second, _ = other.reset(seed=5)
  env.action_space.seed(0)
  for _ in range(10):
    batch = lambda x: spaces.flatten(
        env.observation_space, _batched(x), 'observation')
    a, b = batch(first), batch(second)
    assert set(a) == set(specs)
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], key)
    action = env.action_space.sample()
    first, reward, *end, _ = env.step(action)
    second, again, *other_end, _ = other.step(action)
    assert reward == again and end == other_end
    if any(end):
      break
  env.close()
  other.close()


def _batched(nest):
  """Gives every array of a nest a leading axis."""
  if isinstance(nest, dict):
    return {k: _batched(v) for k, v in nest.items()}
  if isinstance(nest, tuple):
    return tuple(_batched(v) for v in nest)
  return np.asarray(nest)[None]


def logger_takes_everything(kind, name, kwargs, folder):
  """A logger takes every kind of value, at every time."""
  del kind
  logger = small.make('logger', name, kwargs, logdir=str(folder))
  logger.truncate(0)
  logger.write(10, {
      'loss/reward': 1.5, 'odd': math.nan, 'text': 'words',
      'video': np.zeros((3, 8, 6, 3), np.uint8)})
  logger.episode(types.Episode(
      step=10, score=1.0, length=5, worker=0, truncated=False, extras={}))
  logger.progress(10, {'budget_env_steps': 100, 'updates': 2})
  logger.flush()
  logger.truncate(5)
  logger.close()
