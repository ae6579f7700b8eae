"""What components without tensors must do."""

import math

import numpy as np

from dv3 import types
from dv3.collectors import random_policy
from dv3.testing import small
from dv3.training import checkpoints


def sampler_draws_what_is_stored(kind, name, kwargs, folder):
  """Only stored items are drawn, and a restored sampler draws alike."""
  del kind
  make = lambda: small.make('sampler', name, kwargs)
  sampler = make()
  begin, end, room = 0, 0, small.SIZES['capacity']
  # Item numbers count on, through two and a half times the capacity.
  for count in (30, 34, 20, 20, 20, 20, 16):
    if end + count - begin > room:
      sampler.remove(np.arange(begin, end + count - room))
      begin = end + count - room
    sampler.add(np.arange(end, end + count))
    sampler.mark_ends(np.arange(end + 4, end + count, 5))
    end += count
    _check_items(sampler.sample(200, np.random.default_rng(0)), begin, end)
  sampler.remove(np.arange(begin, begin + 10))
  begin += 10
  rng = np.random.default_rng(0)
  batch = sampler.sample(5, rng)
  ends = batch[:, None] + np.arange(3)
  ends[ends >= end] = -1  # Steps with which no stored sequence ends.
  sampler.update(batch, {'loss': np.abs(rng.normal(size=(5, 3)))}, ends)
  state = sampler.state()
  for key, value in state.items():
    if key.startswith('item/'):
      assert len(value) == end - begin, (
          f'{key} has {len(value)} rows for {end - begin} stored items')
  other = make()
  other.load(_saved(state, folder), np.arange(begin, end))
  items = sampler.sample(50, np.random.default_rng(1))
  _check_items(items, begin, end)
  np.testing.assert_array_equal(
      items, other.sample(50, np.random.default_rng(1)))


def _check_items(items, begin, end):
  """Asserts that items are numbers of what is stored."""
  items = np.asarray(items)
  assert items.ndim == 1 and np.issubdtype(items.dtype, np.integer), (
      f'sample gave {items.dtype} {items.shape}, not [count] int64')
  assert items.min() >= begin and items.max() < end, (
      f'sample drew {items.min()} to {items.max()}; stored are {begin} to '
      f'{end - 1}')


def _saved(state, folder):
  """Returns what a checkpoint gives back of a state."""
  checkpoints.write_state(folder, 'state', state)
  return checkpoints.read_state(folder, 'state')


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


def collector_hands_on_every_step(kind, name, kwargs, folder):
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
    state, before = _saved(collector.state(), folder), len(steps)
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


def transform_loses_no_step(kind, name, kwargs, folder):
  """Every step comes out in order, of its own worker; the state survives."""
  del kind
  rng = np.random.default_rng(0)
  def step(number, worker):
    last = number % 6 == 5
    return {
        'observation': rng.normal(size=3).astype(np.float32),
        'action': np.float32(not last) * rng.normal(size=2).astype(np.float32),
        'reward': np.float32(rng.normal()),
        'is_first': np.bool_(number % 6 == 0), 'is_last': np.bool_(last),
        'is_terminal': np.bool_(False),
        # What no transform has a reason to change.
        'latent/origin': np.array([number, worker], np.float32)}
  transform = small.make('transform', name, kwargs)
  out = {0: [], 1: []}
  for number in range(24):
    if number == 10:  # In the middle of an episode.
      other = small.make('transform', name, kwargs)
      other.load(_saved(transform.state(), folder))
      transform = other
    for worker in out:
      given = step(number, worker)
      ready = transform(given, worker)
      assert all(set(x) == set(given) for x in ready)
      out[worker] += ready
  for worker, ready in out.items():
    numbers = [int(x['latent/origin'][0]) for x in ready]
    assert numbers == list(range(24)), f'worker {worker}: {numbers}'
    assert all(int(x['latent/origin'][1]) == worker for x in ready)
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
