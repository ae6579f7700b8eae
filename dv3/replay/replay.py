"""Replay: sequences of steps, with latents that are written back."""

import collections
from typing import Any

import numpy as np

from dv3 import errors
from dv3 import types
from dv3.replay import chunks as chunks_lib
from dv3.replay import context as context_lib
from dv3.replay import memory
from dv3.samplers import uniform


class Replay:
  """Holds the newest sequences and draws batches of them.

    replay = Replay(specs, capacity=100_000, length=64, context=1)
    replay.add({name: [n, ...]}, workers)
    batch = replay.gather(replay.draw(batch_size))
    replay.write_latents(batch['stepid'], {'latent/<name>': [B, T, ...]})

  Each worker's steps form one endless stream; sequences of L = K + T steps
  cross episode borders. Every new step makes the sequence of the last L steps
  available; the oldest sequence is dropped when there are `capacity`. With
  the online queue, each worker's non-overlapping sequences (starting at step
  1, L + 1, 2 L + 1, ...) are drawn first, once.

  Args:
    specs: of one step: observations, actions, reward, flags, latents.
    capacity: sequences to hold.
    length: T, trained steps of a sequence.
    context: K, steps before them.
    sampler: which sequences to draw; uniform by default.
    chunk_steps: steps of a chunk.
    online: whether the online queue is used.
    seed: of the draws.
    workers: how many workers add steps, numbered from 0.
    directory: where full chunks are written; None keeps them in memory only.

  Raises:
    UserError: if the capacity holds no sequence.

  Source: Hafner et al., Nature 2025, "Experience replay"; danijar/dreamerv3
    e3f0224.
  """

  def __init__(
      self, specs: types.Specs, *, capacity: int, length: int, context: int,
      sampler=None, chunk_steps: int = 1024, online: bool = True,
      seed: int = 0, workers: int = 1, directory=None):
    if capacity < 1:
      raise errors.UserError(
          f'train.replay_capacity {capacity} holds no sequence; raise it')
    self.specs = dict(specs)
    self.capacity = capacity
    self.length = length
    self.context = context
    self.stored_length = length + context
    self.online = online
    self.workers = workers
    self.rng = np.random.default_rng(seed)
    self.sampler = sampler or uniform.UniformSampler(capacity=capacity)
    self.chunks = chunks_lib.Chunks(
        specs, capacity, chunk_steps, workers, self.stored_length)
    self.directory = directory
    self.starts = np.zeros(capacity, np.int64)  # Position by item % capacity.
    self.first_item = 0
    self.next_item = 0
    self.queue: collections.deque[int] = collections.deque()
    self.counts = np.zeros(workers, np.int64)
    # The positions of each worker's last L steps, by step % L.
    self.recent = np.zeros((workers, self.stored_length), np.int64)

  def __len__(self) -> int:
    """The number of sequences that can be drawn."""
    return self.next_item - self.first_item

  def add(self, steps: dict[str, np.ndarray], workers: np.ndarray) -> None:
    """Adds one step of each of some workers.

    Args:
      steps: {name: [n, ...]} with every entry of the specs.
      workers: [n] distinct worker numbers.

    Raises:
      UserError: if a full chunk cannot be written to disk.
    """
    workers = np.asarray(workers)
    chunks = self.chunks
    for worker in workers[self._needs_chunk(workers)]:
      full = chunks.open(int(worker))
      if full >= 0 and self.directory is not None:
        self._write(full)
    positions = chunks.append(steps, workers)
    chunks.refer(positions, 1)  # As the start of a sequence to come.
    length = self.stored_length
    self.recent[workers, self.counts[workers] % length] = positions
    self.counts[workers] += 1
    counts = self.counts[workers]
    ready = counts >= length
    if ready.any():
      start = self.recent[workers[ready], counts[ready] % length]
      self._insert(start, counts[ready])

  def draw(self, batch_size: int) -> np.ndarray:
    """Decides on the sequences of a batch: [B] int64 items.

    Raises:
      ValueError: if replay is empty.
    """
    if not len(self):
      raise ValueError('replay is empty')
    items = []
    while self.queue and len(items) < batch_size:
      item = self.queue.popleft()
      if item >= self.first_item:
        items.append(item)
    rest = batch_size - len(items)
    drawn = self.sampler.sample(rest, self.rng) if rest else ()
    return np.array([*items, *drawn], np.int64)

  def gather(self, items: np.ndarray) -> dict[str, np.ndarray]:
    """Reads a batch; see `context.apply` for its entries, and 'item' [B].

    Items that were dropped since they were drawn are replaced by the oldest.
    """
    items = np.maximum(items, self.first_item)
    positions = self.chunks.walk(
        self.starts[items % self.capacity], self.stored_length)
    batch = {}
    trained = positions[:, self.context:]
    action = positions[:, max(0, self.context - 1): self.stored_length - 1]
    for name, array in self.chunks.arrays.items():
      if context_lib.is_latent(name):
        if self.context:
          batch[name] = array[positions[:, self.context - 1]]
      elif context_lib.is_action(name):
        value = array[action]
        if not self.context:
          value = np.concatenate([np.zeros_like(value[:, :1]), value], 1)
        batch[f'prev_{name}'] = value
      elif name not in ('is_first', 'is_last'):
        batch[name] = array[trained]
    is_first, is_last = context_lib.annotate(
        *(self.chunks.arrays[k][positions] for k in ('is_first', 'is_last')))
    batch['is_first'] = is_first[:, self.context:]
    batch['is_last'] = is_last[:, self.context:]
    batch['stepid'] = self.chunks.stepid(trained)
    batch['item'] = items
    return batch

  def sample(self, batch_size: int) -> dict[str, np.ndarray]:
    """Draws and gathers."""
    return self.gather(self.draw(batch_size))

  def write_latents(
      self, stepid: np.ndarray, latents: dict[str, np.ndarray]) -> None:
    """Overwrites the latents of trained steps.

    Args:
      stepid: [B, T] as in the batch; the first of each row says where.
      latents: {'latent/<name>': [B, T, ...]}. Rows whose steps were dropped
        are ignored.
    """
    start = self.chunks.position_of(stepid[:, 0])
    rows = start >= 0
    positions = self.chunks.walk(start[rows], stepid.shape[1])
    for name, value in latents.items():
      self.chunks.arrays[name][positions] = value[rows]

  def update_sampler(
      self, items: np.ndarray, signals: dict[str, np.ndarray]) -> None:
    """Tells the sampler what an update said about items that still exist."""
    rows = items >= self.first_item
    self.sampler.update(
        items[rows], {name: value[rows] for name, value in signals.items()})

  def save(self, folder) -> None:
    """Writes what belongs to a checkpoint; see `storage.save`."""
    from dv3.replay import storage
    storage.save(self, folder)

  def load(self, folder) -> None:
    """Restores what `save` wrote; see `storage.load`."""
    from dv3.replay import storage
    storage.load(self, folder)

  def prune(self, folders) -> None:
    """Deletes chunk files that none of the checkpoint folders needs."""
    from dv3.replay import storage
    storage.prune(self.directory, folders)

  def _needs_chunk(self, workers) -> np.ndarray:
    slots = self.chunks.current[workers]
    return (slots < 0) | (self.chunks.filled[slots] >= self.chunks.chunk_steps)

  def _write(self, slot: int) -> None:
    from dv3.replay import storage
    storage.write_chunk(self, self.directory, slot)

  def _insert(self, starts: np.ndarray, counts: np.ndarray) -> None:
    """Makes sequences available, dropping the oldest where it is full."""
    excess = len(self) + len(starts) - self.capacity
    if excess > 0:
      self._drop(excess)
    items = np.arange(self.next_item, self.next_item + len(starts))
    self.starts[items % self.capacity] = starts
    self.next_item += len(starts)
    self._hold(starts, 1)
    self.sampler.add(items)
    if self.online:
      # counts - 1 is the number n of the step in section "online queue".
      fresh = (counts - 1) % self.stored_length == 0
      self.queue.extend(int(x) for x in items[fresh])

  def _drop(self, count: int) -> None:
    items = np.arange(self.first_item, self.first_item + count)
    self.sampler.remove(items)
    starts = self.starts[items % self.capacity]
    self.first_item += count
    self._hold(starts, -1)
    self.chunks.refer(starts, -1)

  def _hold(self, starts, change: int) -> None:
    """Changes the references of the later chunks of sequences."""
    index = starts % self.chunks.chunk_steps
    crossing = starts[index + self.stored_length > self.chunks.chunk_steps]
    if not len(crossing):
      return
    positions = self.chunks.walk(crossing, self.stored_length)
    slots = positions // self.chunks.chunk_steps
    later = slots[:, 1:][np.diff(slots, axis=1) != 0]
    self.chunks.refer(later * self.chunks.chunk_steps, change)


def projected_bytes(specs: types.Specs, capacity: int, **kwargs: Any) -> int:
  """Returns the bytes of a full replay; see `memory.projected_bytes`."""
  return memory.projected_bytes(specs, capacity, **kwargs)


def shortage(needed_bytes: int) -> str | None:
  """Returns what is wrong if replay cannot fit; see `memory.shortage`."""
  return memory.shortage(needed_bytes)
