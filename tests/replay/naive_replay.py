"""A replay of Python lists, which keeps every step forever."""

import numpy as np

from dv3 import types
from dv3.replay import replay as replay_lib

SPECS = {
    'obs': types.Spec((2,), 'uint8'),
    'image': types.Spec((32, 33), 'uint8'),  # Large: copied in runs.
    'action/a': types.Spec((), 'int32', (5,)),
    'action/b': types.Spec((2,), 'float32'),
    'reward': types.Spec((), 'float32'),
    'is_first': types.Spec((), 'bool'),
    'is_last': types.Spec((), 'bool'),
    'is_terminal': types.Spec((), 'bool'),
    'latent/x': types.Spec((3,), 'float32'),
    'latent/y': types.Spec((), 'int8', (100,))}


def make(capacity=40, length=4, context=1, workers=3, **kwargs):
  kwargs.setdefault('chunk_steps', 6)
  return replay_lib.Replay(
      SPECS, capacity=capacity, length=length, context=context,
      workers=workers, **kwargs)


def random_steps(rng, count):
  return {
      'obs': rng.integers(0, 255, (count, 2)).astype(np.uint8),
      'image': rng.integers(0, 255, (count, 32, 33)).astype(np.uint8),
      'action/a': rng.integers(0, 5, count).astype(np.int32),
      'action/b': rng.normal(size=(count, 2)).astype(np.float32),
      'reward': rng.normal(size=count).astype(np.float32),
      'is_first': rng.random(count) < 0.2, 'is_last': rng.random(count) < 0.2,
      'is_terminal': rng.random(count) < 0.1,
      **random_latents(rng, (count,))}


def random_latents(rng, shape):
  return {
      'latent/x': rng.normal(size=(*shape, 3)).astype(np.float32),
      'latent/y': rng.integers(0, 100, shape).astype(np.int8)}


class Naive:
  """What replay must do, step by step.

  Items are (worker, time of the first step), oldest first; `dropped` counts
  those that were, so that item i of replay is items[i - dropped].
  """

  def __init__(self, capacity, length, context, chunk_steps, consecutive=1):
    self.capacity = capacity
    self.length, self.context = length, context
    self.stored = length * consecutive + context
    self.chunk_steps = chunk_steps
    self.streams = {}
    self.items = []
    self.dropped = 0
    self.queue = []

  def add(self, steps, workers):
    for row, worker in enumerate(workers):
      stream = self.streams.setdefault(int(worker), [])
      number = len(stream)
      stream.append({k: np.array(v[row]) for k, v in steps.items()})
      if number >= self.stored - 1:
        item = (int(worker), number - self.stored + 1)
        self.items.append(item)
        if number % self.stored == 0:
          self.queue.append(item)
    excess = max(0, len(self.items) - self.capacity)
    self.items = self.items[excess:]
    self.dropped += excess

  def take_queued(self, count):
    """Returns up to `count` online items, without those that were dropped."""
    taken = []
    while self.queue and len(taken) < count:
      item = self.queue.pop(0)
      if item in self.items:
        taken.append(item)
    return taken

  def is_kept(self, worker, time):
    """Whether the chunk of a step is kept: the oldest start is not after it."""
    waiting = len(self.streams[worker]) - self.stored + 1
    starts = [t for w, t in self.items if w == worker] + [max(0, waiting)]
    return min(starts) // self.chunk_steps <= time // self.chunk_steps

  def batch(self, items, piece=0):
    """Returns what training takes, and the (worker, time) of each step."""
    rows, places = [], []
    begin = piece * self.length + self.context
    for worker, start in items:
      steps = self.streams[worker][start: start + self.stored]
      first = [bool(x['is_first']) for x in steps]
      first[0] = True
      last = [
          bool(x['is_last']) or (i + 1 < len(steps) and first[i + 1])
          for i, x in enumerate(steps)]
      row = {}
      for name in SPECS:
        values = [x[name] for x in steps]
        if name == 'is_first':
          values = first
        elif name == 'is_last':
          values = last
        if name.startswith('latent/'):
          if self.context:
            row[name] = values[begin - 1]
        elif name.startswith('action/'):
          if not self.context:
            values = values[begin: begin + self.length - 1]
            row[f'prev_{name}'] = [np.zeros_like(steps[0][name]), *values]
          else:
            row[f'prev_{name}'] = values[begin - 1: begin + self.length - 1]
        else:
          row[name] = values[begin: begin + self.length]
      rows.append(row)
      places.append([
          (worker, start + begin + t) for t in range(self.length)])
    return {k: np.array([r[k] for r in rows]) for k in rows[0]}, places

  def write_latents(self, places, latents):
    for row, steps in enumerate(places):
      if self.is_kept(*steps[0]):
        for t, (worker, time) in enumerate(steps):
          for name, value in latents.items():
            self.streams[worker][time][name] = value[row, t]


def check_batch(batch, expected):
  assert set(batch) == {*expected, 'stepid', 'item'}
  for name, value in expected.items():
    assert batch[name].dtype == value.dtype, name
    np.testing.assert_array_equal(batch[name], value, name)
