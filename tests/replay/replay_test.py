"""Replay against a naive model, its disk format and its limits."""

import logging

import numpy as np
import pytest

from dv3 import errors
from dv3 import types
from dv3.replay import memory
from dv3.replay import replay as replay_lib

SPECS = {
    'obs': types.Spec((2,), 'uint8'), 'action': types.Spec((), 'int32', (5,)),
    'reward': types.Spec((), 'float32'), 'is_first': types.Spec((), 'bool'),
    'is_last': types.Spec((), 'bool'), 'is_terminal': types.Spec((), 'bool'),
    'latent/x': types.Spec((3,), 'float32')}


def make(capacity=40, length=4, context=1, workers=3, **kwargs):
  kwargs.setdefault('chunk_steps', 6)
  return replay_lib.Replay(
      SPECS, capacity=capacity, length=length, context=context,
      workers=workers, **kwargs)


def step(rng, count):
  return {
      'obs': rng.integers(0, 255, (count, 2)).astype(np.uint8),
      'action': rng.integers(0, 5, count).astype(np.int32),
      'reward': rng.normal(size=count).astype(np.float32),
      'is_first': rng.random(count) < 0.2, 'is_last': rng.random(count) < 0.2,
      'is_terminal': rng.random(count) < 0.1,
      'latent/x': rng.normal(size=(count, 3)).astype(np.float32)}


class Naive:
  """The same by lists: every step of every worker, forever."""

  def __init__(self, capacity, length):
    self.capacity, self.length = capacity, length
    self.streams = {}
    self.items = []

  def add(self, steps, workers):
    for i, worker in enumerate(workers):
      stream = self.streams.setdefault(int(worker), [])
      stream.append({k: np.array(v[i]) for k, v in steps.items()})
      if len(stream) >= self.length:
        self.items.append((int(worker), len(stream) - self.length))
    self.items = self.items[-self.capacity:]

  def rows(self, index):
    worker, start = self.items[index]
    return self.streams[worker][start: start + self.length]


@pytest.mark.parametrize('context', [0, 1, 2])
@pytest.mark.parametrize('chunk_steps', [3, 6, 64])
def test_agrees_with_naive_model(context, chunk_steps):
  rng = np.random.default_rng(0)
  replay = make(context=context, chunk_steps=chunk_steps)
  naive = Naive(40, 4 + context)
  for round_ in range(400):
    workers = np.flatnonzero(rng.random(3) < 0.8)
    if not len(workers):
      continue
    steps = step(rng, len(workers))
    replay.add(steps, workers)
    naive.add(steps, workers)
    assert len(replay) == len(naive.items)
    if len(replay) and round_ % 7 == 0:
      items = rng.integers(replay.first_item, replay.next_item, 5)
      batch = replay.gather(items)
      for row, item in enumerate(items):
        rows = naive.rows(item - replay.first_item)
        trained = rows[context:]
        for name in ('obs', 'reward', 'is_terminal'):
          np.testing.assert_array_equal(
              batch[name][row], [x[name] for x in trained])
        if context:
          np.testing.assert_array_equal(
              batch['latent/x'][row], rows[context - 1]['latent/x'])
          actions = [x['action'] for x in rows[context - 1: -1]]
        else:
          assert 'latent/x' not in batch
          actions = [0, *(x['action'] for x in rows[:-1])]
        np.testing.assert_array_equal(batch['prev_action'][row], actions)
      if context:
        written = rng.normal(size=(5, 4, 3)).astype(np.float32)
        replay.write_latents(batch['stepid'], {'latent/x': written})
        for row, item in enumerate(items):
          for t, x in enumerate(naive.rows(item - replay.first_item)[context:]):
            x['latent/x'] = written[row, t]


def test_latents_of_dropped_steps_are_not_written():
  rng = np.random.default_rng(0)
  replay = make(capacity=8, workers=1)
  for _ in range(12):
    replay.add(step(rng, 1), [0])
  old = replay.sample(4)
  for _ in range(60):
    replay.add(step(rng, 1), [0])
  before = replay.chunks.arrays['latent/x'].copy()
  replay.write_latents(
      old['stepid'], {'latent/x': np.full((4, 4, 3), 7, np.float32)})
  np.testing.assert_array_equal(replay.chunks.arrays['latent/x'], before)


def same(a, b):
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key], key)


@pytest.mark.parametrize('on_disk', [True, False])
def test_saved_and_loaded_goes_on_exactly(tmp_path, on_disk):
  def new():
    return make(directory=tmp_path / 'chunks' if on_disk else None)
  def life(replay, rng, rounds):
    batches = []
    for _ in range(rounds):
      replay.add(step(rng, 3), [0, 1, 2])
      if len(replay) > 4:
        batch = replay.sample(3)
        replay.write_latents(
            batch['stepid'], {'latent/x': batch['latent/x'][:, None] + (
                np.ones((3, 4, 3), np.float32))})
        batches.append(batch)
    return batches
  first = new()
  life(first, np.random.default_rng(1), 23)
  folder = tmp_path / 'checkpoint'
  folder.mkdir()
  first.save(folder)
  expected = life(first, np.random.default_rng(2), 30)
  second = new()
  second.load(folder)
  found = life(second, np.random.default_rng(2), 30)
  for a, b in zip(expected, found, strict=True):
    same(a, b)


def test_damaged_chunk_costs_that_chunk_and_a_warning(tmp_path, caplog):
  rng = np.random.default_rng(0)
  replay = make(directory=tmp_path / 'chunks', workers=1)
  for _ in range(30):
    replay.add(step(rng, 1), [0])
  folder = tmp_path / 'checkpoint'
  folder.mkdir()
  replay.save(folder)
  path = sorted((tmp_path / 'chunks').glob('*.npz'))[1]
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xff
  path.write_bytes(data)
  loaded = make(directory=tmp_path / 'chunks', workers=1)
  with caplog.at_level(logging.WARNING):
    loaded.load(folder)
  assert str(path) in caplog.text
  assert not path.exists() and path.with_suffix('.damaged').exists()
  # Sequences of 5 that touch the chunk of steps 6 to 11 are lost: 2 to 11.
  assert len(loaded) == len(replay) - 10
  kept = loaded.gather(np.arange(loaded.first_item, loaded.next_item))
  whole = replay.gather(np.arange(replay.first_item, replay.next_item))
  np.testing.assert_array_equal(
      kept['obs'], whole['obs'][[0, 1, *range(12, 26)]])


def test_files_that_no_checkpoint_needs_are_deleted(tmp_path):
  rng = np.random.default_rng(0)
  replay = make(capacity=8, directory=tmp_path / 'chunks', workers=1)
  for _ in range(60):
    replay.add(step(rng, 1), [0])
  folder = tmp_path / 'checkpoint'
  folder.mkdir()
  replay.save(folder)
  count = len(list((tmp_path / 'chunks').glob('*.npz')))
  replay.prune([folder])
  left = len(list((tmp_path / 'chunks').glob('*.npz')))
  assert left < count
  loaded = make(capacity=8, directory=tmp_path / 'chunks', workers=1)
  loaded.load(folder)
  assert len(loaded) == 8


def test_another_length_is_refused_with_the_remedy(tmp_path):
  rng = np.random.default_rng(0)
  replay = make()
  for _ in range(9):
    replay.add(step(rng, 3), [0, 1, 2])
  replay.save(tmp_path)
  with pytest.raises(errors.UserError, match='of 5 steps .*, not 9.*logdir'):
    make(length=8).load(tmp_path)


def test_memory_is_the_raw_bytes_within_five_percent():
  specs = {
      **SPECS, 'obs': types.Spec((64, 64, 3), 'uint8'),
      'latent/x': types.Spec((512,), 'float32')}
  capacity = 110_000
  raw = capacity * memory.step_bytes(specs)
  assert memory.step_bytes(specs) == 64 * 64 * 3 + 4 + 4 + 3 + 2048
  projected = replay_lib.projected_bytes(specs, capacity)
  assert raw <= projected <= 1.05 * raw


def test_a_replay_that_cannot_fit_is_refused():
  assert memory.shortage(1000) is None
  assert 'train.replay_capacity' in memory.shortage(10 ** 15)
