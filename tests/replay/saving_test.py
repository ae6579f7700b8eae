"""Replay survives a stop, exactly, and what may happen to its files."""

import logging
import resource
import threading

import numpy as np
import pytest
from naive_replay import SPECS
from naive_replay import check_batch
from naive_replay import make
from naive_replay import random_latents
from naive_replay import random_steps

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.replay import replay as replay_lib
from dv3.replay import snapshot as snapshot_lib
from dv3.replay import storage

SAMPLERS = ['uniform', 'recency', 'prioritized', 'curious']


def live(replay, seed, rounds):
  """Adds, trains and writes back; returns the batches."""
  rng = np.random.default_rng(seed)
  batches = []
  for _ in range(rounds):
    workers = np.flatnonzero(rng.random(replay.workers) < 0.8)
    if len(workers):
      replay.add(random_steps(rng, len(workers)), workers)
    if len(replay) > 4:
      batch = replay.sample(3)
      batches.append({k: v.copy() for k, v in batch.items()})
      replay.write_latents(
          batch['stepid'], random_latents(rng, batch['stepid'].shape))
      replay.update_sampler(
          batch['item'], {'loss': rng.normal(size=batch['stepid'].shape)})
  if replay.writer is not None:
    # Two replays of one folder would write the same files at the same time.
    replay.writer.settle(replay.chunks)
  return batches


def same(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], name)


def everything(replay):
  """Returns copies of all sequences, oldest first."""
  batch = replay.gather(np.arange(replay.first_item, replay.next_item))
  return {
      k: v.copy() for k, v in batch.items() if k not in ('item', 'stepid')}


def rows(batch, index):
  return {k: v[index] for k, v in batch.items()}


def check_everything(replay, expected):
  check_batch(
      replay.gather(np.arange(replay.first_item, replay.next_item)), expected)


@pytest.mark.parametrize('sampler, on_disk, chunk_steps', [
    *((sampler, True, 6) for sampler in SAMPLERS), ('uniform', True, 3),
    ('curious', False, 3), ('uniform', False, 64), ('curious', True, 64)])
def test_goes_on_exactly(tmp_path, sampler, on_disk, chunk_steps):
  make_sampler = registry.get('sampler', sampler)
  def new():
    return make(
        directory=tmp_path / 'replay' if on_disk else None,
        sampler=make_sampler(capacity=40), chunk_steps=chunk_steps)
  replay = new()
  for number, rounds in enumerate((5, 23, 60)):
    live(replay, number, rounds)
    folder = tmp_path / f'checkpoint{number}'
    replay.save(folder)
    expected = live(replay, 9, 30)
    restored = new()
    restored.load(folder)
    same(live(restored, 9, 30), expected)
    replay = restored  # And so on, from what was restored.


@pytest.mark.parametrize('sampler', ['uniform', 'prioritized'])
@pytest.mark.parametrize('chunk_steps', [3, 6, 64])
@pytest.mark.parametrize('at_once', [False, True])
def test_a_snapshot_is_of_its_instant(tmp_path, sampler, chunk_steps, at_once):
  make_sampler = registry.get('sampler', sampler)
  new = lambda: make(
      directory=tmp_path / 'replay', sampler=make_sampler(capacity=40),
      chunk_steps=chunk_steps)
  replay = new()
  live(replay, 0, 80)
  snapshot = replay.snapshot()
  thread = threading.Thread(
      target=snapshot.write, args=(tmp_path / 'checkpoint',))
  if at_once:
    thread.start()
  # Latents change, slots of dropped chunks are used again.
  expected = live(replay, 9, 30)
  if not at_once:
    thread.start()
  thread.join()
  restored = new()
  restored.load(tmp_path / 'checkpoint')
  same(live(restored, 9, 30), expected)


def test_prune_leaves_chunks_that_became_full_since(tmp_path):
  replay = filled(tmp_path)
  live(replay, 1, 6)
  replay.writer.wait(replay.chunks)
  replay.prune([tmp_path / 'checkpoint'])
  expected = everything(replay)
  replay.save(tmp_path / 'second')
  restored = make(directory=tmp_path / 'replay')
  restored.load(tmp_path / 'second')
  check_everything(restored, expected)


def filled(tmp_path, seed=0, **kwargs):
  """Returns a replay with a checkpoint in tmp_path / 'checkpoint'."""
  replay = make(directory=tmp_path / 'replay', **kwargs)
  live(replay, seed, 80)
  replay.save(tmp_path / 'checkpoint')
  return replay


def files(tmp_path):
  return sorted((tmp_path / 'replay').glob('chunk-*.npz'))


def load(tmp_path, **kwargs):
  restored = make(directory=tmp_path / 'replay', **kwargs)
  restored.load(tmp_path / 'checkpoint')
  return restored


def test_full_chunks_are_written_once(tmp_path):
  replay = filled(tmp_path)
  before = {x: x.stat().st_mtime_ns for x in files(tmp_path)}
  assert len(before) > 5
  replay.save(tmp_path / 'again')
  assert {x: x.stat().st_mtime_ns for x in files(tmp_path)} == before
  full = [s for s in replay.chunks.alive() if replay.chunks.filled[s] == 6]
  with np.load(tmp_path / 'again' / 'chunks.npz') as along:
    numbers = {name.partition('/')[0] for name in along.files}
  assert len(numbers) == len(replay.chunks.alive()) - len(full)


def test_a_full_chunk_without_sequences_is_not_written(tmp_path):
  replay = replay_lib.Replay(
      SPECS, capacity=2, length=1, context=0, chunk_steps=4, workers=2,
      directory=tmp_path)
  rng = np.random.default_rng(0)
  replay.add(random_steps(rng, 2), np.array([0, 1]))
  for worker in [0] * 3 + [1] * 8 + [0]:  # The first of 0 is long gone.
    replay.add(random_steps(rng, 1), np.array([worker]))
  replay.writer.settle(replay.chunks)
  assert [x.name for x in tmp_path.iterdir() if '--' in x.name] == []


def test_chunks_are_flushed_before_they_are_renamed(tmp_path, flushed):
  filled(tmp_path)
  folder = tmp_path / 'replay'
  assert sorted(flushed[::2]) == [
      f'{folder}/writing-{path.stem}' for path in files(tmp_path)]
  assert set(flushed[1::2]) == {str(folder)}  # And the renaming itself.


def test_nothing_is_pickled(tmp_path):
  filled(tmp_path)
  archives = [*files(tmp_path), *(tmp_path / 'checkpoint').glob('*.npz')]
  for path in archives:
    with np.load(path, allow_pickle=False) as archive:
      assert all(archive[name].dtype != object for name in archive.files)


@pytest.mark.parametrize('damage, which, sampler', [
    ('flip', 0, 'curious'), ('cut', 3, 'curious'), ('remove', -1, 'curious'),
    ('empty', -1, 'uniform'), ('remove', 3, 'recency'),
    ('flip', 3, 'prioritized')])
def test_damaged_chunk_costs_its_sequences(
    tmp_path, caplog, damage, which, sampler):
  make_sampler = registry.get('sampler', sampler)
  replay = filled(tmp_path, sampler=make_sampler(capacity=40))
  state = replay.sampler.state()
  replay.prune([tmp_path / 'checkpoint'])
  path = files(tmp_path)[which]
  identifier = int(path.stem.partition('-')[2])
  content = path.read_bytes()
  if damage == 'flip':
    middle = len(content) // 2
    path.write_bytes(
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:])
  elif damage == 'remove':
    path.unlink()
  else:
    path.write_bytes(b'' if damage == 'empty' else content[:-100])
  items = np.arange(replay.first_item, replay.next_item)
  positions = replay.chunks.walk(replay.starts[items % 40], 5)
  touched = (
      replay.chunks.identifier[positions // 6] == identifier).any(1)
  assert touched.any() and not touched.all()
  expected = rows(everything(replay), ~touched)
  queue = [x for x in replay.queue if not touched[x - replay.first_item]]
  with caplog.at_level(logging.WARNING):
    restored = load(tmp_path, sampler=make_sampler(capacity=40))
  assert len(caplog.records) == 1
  assert str(path) in caplog.text
  assert not path.exists()
  assert path.with_suffix('.damaged').exists() == (damage != 'remove')
  check_everything(restored, expected)
  assert restored.queued == len(queue)
  # Priorities stay with their sequences, and old numbers mean nothing now.
  for name, value in restored.sampler.state().items():
    if name.startswith('item/'):
      state[name] = state[name][~touched]
    np.testing.assert_array_equal(value, state[name])
  assert restored.first_item > items[-1]
  live(restored, 5, 80)
  restored.save(tmp_path / 'again')
  restored.prune([tmp_path / 'again'])
  assert path.with_suffix('.damaged').exists() == (damage != 'remove')
  again = make(
      directory=tmp_path / 'replay', sampler=make_sampler(capacity=40))
  again.load(tmp_path / 'again')
  same(live(again, 6, 20), live(restored, 6, 20))


def test_files_of_another_timeline_are_damage(tmp_path, caplog):
  replay = filled(tmp_path)
  filled(tmp_path / 'other', seed=1)
  mine, other = (
      {x.name: x for x in files(folder)}
      for folder in (tmp_path, tmp_path / 'other'))
  name = max(mine.keys() & other)
  mine[name].write_bytes(other[name].read_bytes())
  with caplog.at_level(logging.WARNING):
    restored = load(tmp_path)
  assert 'another checksum' in caplog.text
  assert 0 < len(restored) < len(replay)


@pytest.mark.parametrize('capacity', [7, 25, 100])
@pytest.mark.parametrize('chunk_steps', [3, 6])
def test_another_capacity_keeps_the_newest(tmp_path, capacity, chunk_steps):
  replay = filled(tmp_path, chunk_steps=chunk_steps)
  kept = min(40, capacity)
  expected = rows(everything(replay), slice(-kept, None))
  restored = load(tmp_path, capacity=capacity, chunk_steps=chunk_steps)
  assert len(restored) == kept
  assert restored.next_item == replay.next_item
  check_everything(restored, expected)
  live(restored, 1, 100)
  assert len(restored) == capacity


@pytest.mark.parametrize('workers', [1, 2, 5])
def test_another_number_of_workers(tmp_path, workers):
  replay = filled(tmp_path)
  expected = everything(replay)
  restored = load(tmp_path, workers=workers)
  check_everything(restored, expected)
  for number in range(3):  # Old streams end, and all of their chunks go.
    live(restored, number, 20)
    restored.save(tmp_path / 'checkpoint')
    again = load(tmp_path, workers=workers)
    check_everything(again, everything(restored))
    restored = again
  live(restored, 7, 100)
  assert len(restored) == 40
  assert len(restored.chunks.alive()) <= 40 / 6 + 3 * workers


def test_the_chunk_size_stays_as_it_was(tmp_path):
  replay = filled(tmp_path)
  restored = load(tmp_path, chunk_steps=11)
  assert restored.chunks.chunk_steps == 6
  same(live(restored, 1, 30), live(replay, 1, 30))


def test_another_seed_draws_otherwise(tmp_path):
  replay = filled(tmp_path)
  restored = load(tmp_path, seed=1)
  check_everything(restored, everything(replay))
  assert (replay.draw(40) != restored.draw(40)).any()


def test_what_does_not_fit_is_refused(tmp_path):
  filled(tmp_path)
  with pytest.raises(errors.UserError, match='of 5 steps.*not 9.*--logdir'):
    load(tmp_path, length=8)
  with pytest.raises(errors.UserError, match='by UniformSampler, not Recency'):
    load(tmp_path, sampler=registry.get('sampler', 'recency')(capacity=40))
  specs = {**SPECS, 'obs': types.Spec((3,), 'uint8')}
  other = replay_lib.Replay(
      specs, capacity=40, length=4, context=1, workers=3, chunk_steps=6)
  with pytest.raises(
      errors.UserError, match=r"obs was \[\[2\], 'uint8'\], is \[\[3\], 'uint"):
    other.load(tmp_path / 'checkpoint')
  with pytest.raises(errors.UserError, match='pass directory'):
    make().load(tmp_path / 'checkpoint')


@pytest.mark.parametrize('name', ['index.npz', 'sampler.npz', 'replay.json'])
def test_a_damaged_checkpoint_is_refused(tmp_path, name):
  filled(tmp_path)
  path = tmp_path / 'checkpoint' / name
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(errors.UserError, match='cannot be read.*older one'):
    load(tmp_path)


def test_prune_deletes_what_no_checkpoint_needs(tmp_path):
  replay = filled(tmp_path)
  live(replay, 1, 40)
  replay.save(tmp_path / 'second')
  expected = everything(replay)
  live(replay, 2, 40)
  replay.writer.wait(replay.chunks)
  (tmp_path / 'replay' / 'writing-chunk-000000000001').write_text('left over')
  (tmp_path / 'replay' / 'notes.txt').write_text('')
  everything_there = files(tmp_path)
  replay.prune([tmp_path / 'checkpoint', tmp_path / 'second'])
  left = files(tmp_path)
  assert len(left) < len(everything_there)
  # Chunks that are newer than the last checkpoint are for the next one.
  assert left[-1] == everything_there[-1]
  load(tmp_path)
  replay.prune([tmp_path / 'second'])
  assert len(files(tmp_path)) < len(left)
  assert not list((tmp_path / 'replay').glob('writing*'))
  assert (tmp_path / 'replay' / 'notes.txt').exists()
  restored = make(directory=tmp_path / 'replay')
  restored.load(tmp_path / 'second')
  check_everything(restored, expected)


class FileSizeLimit:
  """Lets writes fail half-way, as they do on a full disk."""

  def __init__(self, size):
    self._size = size

  def __enter__(self):
    self._old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._old[1]))

  def __exit__(self, *args):
    resource.setrlimit(resource.RLIMIT_FSIZE, self._old)


def test_full_disk_while_a_chunk_is_written(tmp_path):
  replay = filled(tmp_path)
  expected = everything(replay)
  before = files(tmp_path)
  with FileSizeLimit(1000):
    with pytest.raises(
        errors.UserError, match=f'cannot write replay to {tmp_path}/replay.*'
        'free space'):
      live(replay, 1, 40)
      replay.save(tmp_path / 'second')
    replay.writer.settle(replay.chunks)  # Others may be under way.
  assert not list((tmp_path / 'replay').glob('writing*'))
  assert files(tmp_path)[:len(before)] == before
  check_everything(load(tmp_path), expected)
  # With space again, nothing of the present is lost either.
  replay.save(tmp_path / 'second')
  restored = make(directory=tmp_path / 'replay')
  restored.load(tmp_path / 'second')
  same(live(restored, 3, 20), live(replay, 3, 20))


def test_full_disk_while_a_checkpoint_is_written(tmp_path):
  replay = filled(tmp_path)
  expected = everything(replay)
  with FileSizeLimit(3000):
    with pytest.raises(
        errors.UserError, match=f'cannot write replay to {tmp_path}/second'):
      replay.save(tmp_path / 'second')
  assert not list((tmp_path / 'second').iterdir())
  check_everything(load(tmp_path), expected)


def test_folders_that_cannot_be_made(tmp_path):
  (tmp_path / 'replay').write_text('a file')
  with pytest.raises(errors.UserError, match=f'to {tmp_path}/replay: .*exist'):
    filled(tmp_path)
  with pytest.raises(errors.UserError, match=f'to {tmp_path}/replay/a: '):
    make().save(tmp_path / 'replay' / 'a')


def test_a_chunk_that_was_full_at_a_save_is_written_once(tmp_path, monkeypatch):
  # Written again, it would be a file that the checkpoint's thread may delete.
  written = []
  write = storage.write_chunk
  def record(path, entries):
    written.append(path.name)
    return write(path, entries)
  monkeypatch.setattr(storage, 'write_chunk', record)
  replay = make(directory=tmp_path / 'replay', chunk_steps=8, capacity=400)
  rng, workers = np.random.default_rng(0), np.arange(replay.workers)
  for number in range(20):
    replay.add(random_steps(rng, len(workers)), workers)
    if number == 7:
      replay.save(tmp_path / 'checkpoint')
      assert len(written) == len(workers)
  replay.save(tmp_path / 'later')
  assert len(written) == len(set(written)) == 2 * len(workers)


def test_copies_for_a_snapshot_wait_for_the_writer(tmp_path):
  one = lambda slot: {'latents': {f'{slot}/x': np.full(100, slot, np.uint8)}}
  snapshot = snapshot_lib.Snapshot(
      '{}', {}, {slot: one(slot) for slot in range(4)}, most_bytes=150)
  thread = threading.Thread(target=snapshot.protect, args=([3, 2, 1],))
  thread.start()
  thread.join(0.5)
  assert thread.is_alive()  # Two copies are more than it may have.
  snapshot.write(tmp_path)
  thread.join(30)
  assert not thread.is_alive()
  with np.load(tmp_path / 'latents.npz') as file:
    assert {name: int(file[name][0]) for name in file.files} == {
        f'{slot}/x': slot for slot in range(4)}
