"""Replay against a naive model, with wrap-around, and its limits."""

import threading

import naive_replay
import numpy as np
import pytest
from naive_replay import check_batch
from naive_replay import make
from naive_replay import random_latents
from naive_replay import random_steps

from dv3 import errors
from dv3 import interfaces


class Recorder(interfaces.Sampler):
  """A uniform sampler that keeps what it was told."""

  def __init__(self):
    self.items, self.updates = [], []

  def add(self, items):
    self.items.extend(items.tolist())

  def remove(self, items):
    assert self.items[:len(items)] == items.tolist()
    del self.items[:len(items)]

  def sample(self, count, rng):
    return rng.choice(np.array(self.items, np.int64), count)

  def update(self, items, signals, ends):
    self.updates.append((items, signals, ends))

  def state(self):
    return {}

  def load(self, state, items):
    self.items = items.tolist()


@pytest.mark.parametrize('context', [0, 1, 3])
@pytest.mark.parametrize('chunk_steps', [3, 6, 64])
@pytest.mark.parametrize('capacity', [3, 40])
def test_agrees_with_naive_model(context, chunk_steps, capacity):
  rng = np.random.default_rng(0)
  sampler = Recorder()
  replay = make(
      capacity, context=context, chunk_steps=chunk_steps, sampler=sampler)
  naive = naive_replay.Naive(capacity, 4, context, chunk_steps)
  old = []
  owners = {}
  for _ in range(400):
    workers = np.flatnonzero(rng.random(3) < [0.9, 0.9, 0.3])
    if not len(workers):
      continue
    steps = random_steps(rng, len(workers))
    replay.add(steps, workers)
    naive.add(steps, workers)
    assert len(replay) == len(naive.items) == len(sampler.items)
    assert replay.queued == len(naive.queue)
    if not len(replay) or rng.random() < 0.8:
      continue
    items = replay.draw(5)
    chosen = [naive.items[i - naive.dropped] for i in items]
    fresh = naive.take_queued(5)
    assert chosen[:len(fresh)] == fresh  # Online sequences first, in order.
    batch = replay.gather(items)
    expected, places = naive.batch(chosen)
    check_batch(batch, expected)
    np.testing.assert_array_equal(batch['item'], items)
    for row, steps in zip(batch['stepid'].tolist(), places, strict=True):
      for stepid, place in zip(row, steps, strict=True):
        assert owners.setdefault(stepid, place) == place
    old.append((batch['stepid'].copy(), batch['item'].copy(), places))
    # Results of this batch, or late ones of an earlier batch.
    stepid, items, places = old[int(rng.integers(len(old)))]
    latents = random_latents(rng, (5, 4))
    replay.write_latents(stepid, latents)
    naive.write_latents(places, latents)
    loss = rng.normal(size=(5, 4))
    replay.update_sampler(items, {'loss': loss})
    check_update(sampler, naive, items, loss, places)
  positions = replay.chunks.walk(
      replay.starts[np.array(sampler.items) % capacity], 4 + context)
  for item, row in zip(naive.items, positions, strict=True):
    worker, start = item
    for t, position in enumerate(row):
      for name in ('latent/x', 'latent/y'):
        np.testing.assert_array_equal(
            replay.chunks.arrays[name][position],
            naive.streams[worker][start + t][name])


def test_tells_samplers_which_sequences_end_with_an_episode():
  class Ends(Recorder):
    marked = set()
    def mark_ends(self, items):
      self.marked.update(items.tolist())
  rng = np.random.default_rng(0)
  sampler = Ends()
  replay = make(400, sampler=sampler)
  naive = naive_replay.Naive(400, 4, 1, 6)
  for _ in range(60):
    workers = np.flatnonzero(rng.random(3) < 0.7)
    if len(workers):
      steps = random_steps(rng, len(workers))
      replay.add(steps, workers)
      naive.add(steps, workers)
  expected = {
      i for i, (worker, start) in enumerate(naive.items)
      if naive.streams[worker][start + naive.stored - 1]['is_last']}
  assert expected and sampler.marked == expected


def check_update(sampler, naive, items, loss, places):
  """Checks which items and which ends of items an update concerns."""
  found_items, signals, ends = sampler.updates[-1]
  rows = items >= naive.dropped
  np.testing.assert_array_equal(found_items, items[rows])
  np.testing.assert_array_equal(signals['loss'], loss[rows])
  number = {x: i + naive.dropped for i, x in enumerate(naive.items)}
  expected = [
      [number.get((w, t - naive.stored + 1), -1) for w, t in steps]
      for steps, kept in zip(places, rows, strict=True) if kept]
  np.testing.assert_array_equal(
      ends, np.array(expected).reshape(-1, loss.shape[1]))


@pytest.mark.parametrize('context', [0, 2])
def test_consecutive_pieces_overlap_by_the_context(context):
  rng = np.random.default_rng(0)
  replay = make(context=context, consecutive=3, length=2)
  naive = naive_replay.Naive(40, 2, context, 6, consecutive=3)
  for _ in range(60):
    steps = random_steps(rng, 3)
    replay.add(steps, [0, 1, 2])
    naive.add(steps, [0, 1, 2])
  items = replay.draw(9)
  chosen = [naive.items[i - naive.dropped] for i in items]
  for piece in range(3):
    check_batch(replay.gather(items, piece), naive.batch(chosen, piece)[0])


@pytest.mark.parametrize('consecutive', [1, 2])
def test_drawn_items_outlive_what_is_added(consecutive):
  rng = np.random.default_rng(0)
  replay = make(capacity=8, workers=1, consecutive=consecutive)
  naive = naive_replay.Naive(8, 4, 1, 6, consecutive)

  def add(count):
    for _ in range(count):
      steps = random_steps(rng, 1)
      replay.add(steps, [0])
      naive.add(steps, [0])

  add(30)
  replay.queue.clear()
  items = replay.draw(3)
  chosen = [naive.items[i - naive.dropped] for i in items]
  expected = [naive.batch(chosen, x)[0] for x in range(consecutive)]
  add(50)
  for piece in range(consecutive):
    check_batch(replay.gather(items, piece), expected[piece])
  with pytest.raises(LookupError, match='dropped'):
    replay.gather(items)


def test_gathers_in_the_background_while_steps_are_added():
  rng = np.random.default_rng(0)
  replay = make(capacity=20, workers=2, online=False)
  naive = naive_replay.Naive(20, 4, 1, 6)
  for number in range(120):
    steps = random_steps(rng, 2)
    replay.add(steps, [0, 1])
    naive.add(steps, [0, 1])
    if number < 20:
      continue
    items = replay.draw(6)
    expected, _ = naive.batch([naive.items[i - naive.dropped] for i in items])
    result = {}
    thread = threading.Thread(
        target=lambda items=items, result=result: result.update(
            replay.gather(items)))
    thread.start()
    for _ in range(number % 30):
      steps = random_steps(rng, 2)
      replay.add(steps, [0, 1])
      naive.add(steps, [0, 1])
    thread.join()
    check_batch(result, expected)


def test_a_batch_lasts_until_the_gather_after_the_next():
  rng = np.random.default_rng(0)
  replay = make()
  for _ in range(20):
    replay.add(random_steps(rng, 3), [0, 1, 2])
  first = replay.sample(4)
  kept = {k: v.copy() for k, v in first.items()}
  second = replay.sample(4)
  check_batch(first, {
      k: v for k, v in kept.items() if k not in ('stepid', 'item')})
  third = replay.sample(4)
  assert third['obs'] is first['obs']
  assert second['obs'] is not first['obs']


def test_draws_depend_on_the_seed_only():
  def draws(seed):
    rng = np.random.default_rng(0)
    replay = make(seed=seed, online=False)
    for _ in range(20):
      replay.add(random_steps(rng, 3), [0, 1, 2])
    return np.array([replay.draw(5) for _ in range(9)])
  np.testing.assert_array_equal(draws(1), draws(1))
  assert (draws(1) != draws(2)).any()


def test_an_empty_replay_draws_nothing():
  with pytest.raises(ValueError, match='empty'):
    make().draw(1)


def test_too_small_for_one_batch():
  make(capacity=64, length=4, batch_size=16)
  with pytest.raises(
      errors.UserError, match='replay_capacity 63 is less than 64.*raise it'):
    make(capacity=63, length=4, batch_size=16)
  with pytest.raises(errors.UserError, match='one step of each environment'):
    make(capacity=2, workers=3)


def step_of(replay, workers, **changes):
  """Returns one step of each worker, with some entries changed."""
  steps = {
      name: np.zeros((len(workers), *spec.shape), spec.dtype)
      for name, spec in replay.specs.items()}
  return {k: v for k, v in {**steps, **changes}.items() if v is not None}


@pytest.mark.parametrize('workers', [[0, 0], [-1], [2]])
def test_workers_that_there_are_not_are_refused(workers):
  replay = make(40, workers=2)
  with pytest.raises(errors.UserError, match='workers'):
    replay.add(step_of(replay, workers), np.array(workers))
  replay.add(step_of(replay, [1, 0]), np.array([1, 0]))


@pytest.mark.parametrize('value, words', [
    (None, "without 'reward'"),
    (np.zeros((2, 1), np.float32), 'its spec says float32'),
    (np.zeros(1, np.float32), 'for 2 steps'),
    (np.array(['a', 'b']), 'its spec says float32')])
def test_steps_that_are_not_as_specified_are_refused(value, words):
  replay = make(40, workers=2)
  with pytest.raises(errors.UserError, match=words):
    replay.add(step_of(replay, [0, 1], reward=value), np.array([0, 1]))


@pytest.mark.parametrize('draw', [
    lambda items, count: np.full(count, 10 ** 6),
    lambda items, count: np.full(count, -1),
    lambda items, count: items[:1].repeat(count + 1),
    lambda items, count: items[:1].repeat(count) + 0.5,
    lambda items, count: None])
def test_a_sampler_that_draws_what_is_not_there_is_named(draw):
  class Wrong(Recorder):
    def sample(self, count, rng):
      return draw(np.array(self.items), count)
  replay = make(40, sampler=Wrong(), online=False)
  for _ in range(30):
    replay.add(step_of(replay, [0]), np.array([0]))
  with pytest.raises(errors.UserError, match='Wrong drew'):
    replay.draw(4)
