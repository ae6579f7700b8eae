"""What components without tensors must do."""

import math
import warnings

import numpy as np
from gymnasium.utils import env_checker

from dv3 import types
from dv3.collectors import random_policy
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
  ends[ends >= 30] = -1  # Steps with which no stored sequence ends.
  sampler.update(batch, {'loss': np.abs(rng.normal(size=(5, 3)))}, ends)
  other = make()
  other.load(sampler.state(), np.arange(10, 30))
  items = sampler.sample(50, np.random.default_rng(1))
  assert items.min() >= 10 and items.max() < 30
  np.testing.assert_array_equal(
      items, other.sample(50, np.random.default_rng(1)))


def exploration_keeps_actions_valid(kind, name, kwargs):
  """Actions stay what their specs say, and the same call repeats them."""
  del kind
  make = lambda: small.make(
      'exploration', name, kwargs, action_spec=small.ACTION, seed=3)
  policy = random_policy.RandomPolicy(small.ACTION, seed=0)
  used = make()
  for env_steps in (0, 20, 10 ** 6, 20):
    actions, _, _ = policy(None, np.zeros(20, bool), (), env_steps)
    for value in actions.values():
      value.flags.writeable = False
    # What it made of other steps before has left no trace.
    results = used(actions, env_steps), make()(actions, env_steps)
    for key, spec in small.ACTION.items():
      for value in results[0][key], results[1][key]:
        assert value.shape == (20, *spec.shape), key
        assert value.dtype == spec.dtype, key
        low, high = (0, min(spec.classes) - 1) if spec.classes else (-1, 1)
        assert low <= value.min() and value.max() <= high, key
      np.testing.assert_array_equal(results[0][key], results[1][key], key)


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


def collector_hands_on_every_step(kind, name, kwargs):
  """Episodes are whole and in order, and a restored collector goes on."""
  del kind
  recipe = types.Recipe('env', 'memory', {'length': 4})
  make = lambda: small.make(
      'collector', name, kwargs, env=recipe, seed=3, num_envs=2)
  collector = make()
  try:
    policy = random_policy.RandomPolicy(collector.action_spec, seed=0)
    steps = []
    sink = lambda step, workers: steps.extend(
        {k: np.array(v[i]) for k, v in step.items()} | {'worker': int(worker)}
        for i, worker in enumerate(workers))
    episodes = collector.run(policy, sink, 30)
    assert collector.env_steps >= 30
    assert len(episodes) >= 3
    assert {x.length for x in episodes} == {4}
    for worker in {x['worker'] for x in steps}:
      _check_stream([x for x in steps if x['worker'] == worker])
    assert sum(not x['is_first'] for x in steps) in range(
        collector.env_steps - collector.num_envs, collector.env_steps + 1)
    state, before = collector.state(), len(steps)
    collector.run(policy, sink, 8)
    straight = steps[before:]
  finally:
    collector.close()
  other = make()
  try:
    other.load(state)
    del steps[:]
    other.run(policy, sink, 8)
  finally:
    other.close()
  for a, b in zip(straight, steps, strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], key)


def _check_stream(steps):
  """Asserts that one worker's steps are episodes of four, one after another."""
  assert steps[0]['is_first']
  for i, step in enumerate(steps):
    assert step['is_first'] == (i % 5 == 0), i
    assert step['is_last'] == step['is_terminal'] == (i % 5 == 4), i
    cue_shows = step['observation'][:-1].any()
    assert cue_shows == step['is_first'], i
    if step['is_first']:
      assert step['reward'] == 0.0
    if step['is_last']:
      assert step['action'] == 0, 'the action after the last step is zeros'


def transform_loses_no_step(kind, name, kwargs):
  """Every step comes out in order, of its own worker; the state survives."""
  del kind
  rng = np.random.default_rng(0)
  def step(number, worker):
    return {
        'observation': np.array([number, worker], np.float32),
        'reward': np.float32(rng.normal()),
        'is_first': np.bool_(number % 6 == 0),
        'is_last': np.bool_(number % 6 == 5), 'is_terminal': np.bool_(False)}
  transform = small.make('transform', name, kwargs)
  out = {0: [], 1: []}
  for number in range(24):
    if number == 10:  # In the middle of an episode.
      other = small.make('transform', name, kwargs)
      other.load(transform.state())
      transform = other
    for worker in out:
      given = step(number, worker)
      ready = transform(given, worker)
      assert all(set(x) == set(given) for x in ready)
      out[worker] += ready
  for worker, ready in out.items():
    numbers = [int(x['observation'][0]) for x in ready]
    assert numbers == list(range(24)), f'worker {worker}: {numbers}'
    assert all(int(x['observation'][1]) == worker for x in ready)
    assert all(np.isfinite(x['reward']) for x in ready)


def scaling_leaves_one_replica(kind, name, kwargs):
  """One replica is left as it is; factors of several are positive."""
  del kind
  rule = small.make('scaling', name, kwargs)
  assert rule(1) == types.Scale()
  for replicas in (2, 8):
    scale = rule(replicas)
    assert isinstance(scale.batch, int) and scale.batch >= 1
    assert isinstance(scale.environments, int) and scale.environments >= 1
    assert scale.learning_rate > 0 and scale.priming > 0
    assert 0 <= scale.priming_share <= 1
