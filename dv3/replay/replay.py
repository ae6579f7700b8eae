"""Replay: sequences of steps, with latents that are written back."""

import collections
import threading

import numpy as np

from dv3 import errors
from dv3 import types
from dv3.replay import chunks as chunks_lib
from dv3.replay import context as context_lib
from dv3.replay import memory
from dv3.replay import saving
from dv3.replay import snapshot as snapshot_lib
from dv3.replay import staging
from dv3.replay import storage
from dv3.samplers import uniform

projected_bytes = memory.projected_bytes
shortage = memory.shortage


def check_capacity(capacity: int, *, workers: int, batch_steps: int) -> None:
  """Raises a UserError for a capacity of less than one batch.

  Args:
    capacity: sequences to hold, one for each step.
    workers: how many add steps.
    batch_steps: trained steps of one batch.
  """
  least = max(1, workers, batch_steps)
  if capacity < least:
    raise errors.UserError(
        f'train.replay_capacity {capacity} is less than {least} (batch_size '
        'x batch_length, and one step of each environment); raise it')


def _check_entry(steps, name: str, shape: tuple, dtype: np.dtype) -> None:
  """Raises a UserError for what cannot be stored as it is meant.

  Args:
    steps: {name: array}.
    name: of the entry to check.
    shape: that its spec says, with the number of steps in front.
    dtype: that its spec says; integers may be of another size, and numbers of
      another precision.
  """
  if name not in steps:
    raise errors.UserError(
        f'replay got steps without {name!r}, which its specs have; there are '
        f'{sorted(steps)}')
  value = np.asarray(steps[name])
  if value.shape != shape or not (
      {value.dtype.kind, dtype.kind} <= {'i', 'u'}
      or np.can_cast(value.dtype, dtype, 'same_kind')):
    raise errors.UserError(
        f'replay got {name!r} as {value.dtype}{list(value.shape)} for '
        f'{shape[0]} steps; its spec says {dtype}{list(shape[1:])} a step')


class Replay:
  """Holds the newest sequences and draws batches of them.

    replay = Replay(specs, capacity=100_000, length=64, context=1)
    replay.add({name: [n, ...]}, workers)
    batch = replay.gather(replay.draw(batch_size))
    replay.write_latents(batch['stepid'], {'latent/<name>': [B, T, ...]})
    replay.update_sampler(batch['item'], {'loss': [B, T]})

  Each worker's steps form one endless stream; sequences of L = P * T + K steps
  cross episode borders. Every new step makes the sequence of the last L steps
  available, as an item; the oldest item is dropped when there are `capacity`.
  With the online queue, each worker's non-overlapping sequences (starting at
  step 1, L + 1, 2 L + 1, ...) are drawn first, once.

  One lock guards every method, so that a background thread may gather while
  the main thread goes on: an `add` that would drop a drawn item gathers its
  batch first. The draws, and with them the run, do not depend on the threads'
  timing if the write-backs wait for the gather.

  Args:
    specs: of one step: observations, actions, reward, flags, latents.
    capacity: sequences to hold, one for each step.
    length: T, trained steps of a piece.
    context: K, steps before them.
    consecutive: P, pieces that a sequence is cut into.
    sampler: which sequences to draw; uniform by default.
    chunk_steps: steps of a chunk.
    online: whether the online queue is used.
    seed: of the draws.
    workers: how many workers add steps, numbered from 0.
    directory: where full chunks are written; None keeps them in memory only.
    batch_size: sequences of the batches to come, if known, for the check of
      the capacity.
    expected_steps: how many steps are to be held if fewer than the capacity,
      for the check of memory: what is never written takes none.
    staged_batches: how many gathered batches stay as they are, at least P + 1;
      that many by default.

  Attributes:
    queued: how many online sequences wait.

  Raises:
    UserError: if the capacity is less than one batch, or does not fit in
      memory.

  Source: Hafner et al., Nature 2025, "Experience replay"; danijar/dreamerv3
    e3f0224.
  """

  def __init__(
      self, specs: types.Specs, *, capacity: int, length: int, context: int,
      consecutive: int = 1, sampler=None, chunk_steps: int = 1024,
      online: bool = True, seed: int = 0, workers: int = 1, directory=None,
      batch_size: int | None = None, staged_batches: int | None = None,
      expected_steps: int | None = None):
    if 'is_last' not in specs or 'is_first' not in specs:
      raise errors.UserError(
          'replay needs the entries is_first and is_last, bool, where episodes '
          'begin and end; add them to the specs and to every step')
    check_capacity(
        capacity, workers=workers, batch_steps=(batch_size or 0) * length)
    self.specs = dict(specs)
    # Of so many steps: (name, shape, dtype) of each entry.
    self._forms: dict[int, list[tuple[str, tuple, np.dtype]]] = {}
    self.capacity = capacity
    self.length = length
    self.context = context
    self.consecutive = consecutive
    self.stored_length = length * consecutive + context
    self.online = online
    self.workers = workers
    self.seed = seed
    self.rng = np.random.default_rng(seed)
    self.sampler = sampler or uniform.UniformSampler(capacity=capacity)
    missing = shortage(projected_bytes(
        specs, min(capacity, expected_steps or capacity),
        chunk_steps=chunk_steps, workers=workers, length=self.stored_length))
    if missing:
      raise errors.UserError(missing)
    self.chunks = self.make_chunks(chunk_steps)
    self.writer = None if directory is None else storage.Writer(directory)
    self.starts = np.empty(capacity, np.int64)  # Position by item % capacity.
    self.first_item = 0
    self.next_item = 0
    self.queue: collections.deque[int] = collections.deque()
    self.counts = np.zeros(workers, np.int64)
    # The positions of each worker's last L steps, by step % L.
    self.recent = np.zeros((workers, self.stored_length), np.int64)
    self._staging = staging.Staging(max(consecutive + 1, staged_batches or 0))
    self._drawn: np.ndarray | None = None  # Until its last piece is gathered.
    self._rescued: list[dict[str, np.ndarray]] | None = None
    self._snapshots: list[snapshot_lib.Snapshot] = []
    self._lock = threading.RLock()

  def make_chunks(self, chunk_steps: int, least: int = 0) -> chunks_lib.Chunks:
    """Returns empty storage of the right size, for `least` chunks or more."""
    slots = memory.slots_for(
        self.capacity, chunk_steps, self.workers, self.stored_length)
    return chunks_lib.Chunks(
        self.specs, slots=max(slots, least), chunk_steps=chunk_steps,
        workers=self.workers)

  def __len__(self) -> int:
    """The number of sequences that can be drawn."""
    return self.next_item - self.first_item

  @property
  def queued(self) -> int:
    return len(self.queue)

  def add(self, steps: dict[str, np.ndarray], workers: np.ndarray) -> None:
    """Adds one step of each of some workers.

    Args:
      steps: {name: [n, ...]} with every entry of the specs.
      workers: [n] distinct worker numbers.

    Raises:
      UserError: if a full chunk could not be written to disk; for workers that
        there are not, or twice, and for steps that are not as the specs say.
    """
    workers = np.asarray(workers)
    self._check_steps(steps, workers.tolist())
    chunks, length = self.chunks, self.stored_length
    with self._lock:
      slots = chunks.current[workers]
      full = (slots < 0) | (chunks.filled[slots] >= chunks.chunk_steps)
      if full.any():
        for worker in workers[full].tolist():
          self._open_chunk(worker)
      positions = chunks.append(steps, workers)
      counts = self.counts[workers]
      self.recent[workers, counts % length] = positions
      counts += 1
      self.counts[workers] = counts
      ready = counts >= length
      if ready.any():
        starts = self.recent[workers[ready], counts[ready] % length]
        self._insert(starts, positions[ready], counts[ready])

  def draw(self, batch_size: int) -> np.ndarray:
    """Decides on the sequences of a batch: [B] int64 items.

    They can be gathered until the next draw.

    Raises:
      ValueError: if replay is empty.
      UserError: for a sampler that draws what is not there, or too few or many.
    """
    with self._lock:
      if not len(self):
        raise ValueError('replay is empty')
      items = []
      while self.queue and len(items) < batch_size:
        item = self.queue.popleft()
        if item >= self.first_item:
          items.append(item)
      rest = batch_size - len(items)
      drawn = self._sampled(rest) if rest else ()
      self._drawn = np.array([*items, *drawn], np.int64)
      self._rescued = None
      return self._drawn.copy()

  def _sampled(self, count: int) -> np.ndarray:
    """Returns what the sampler draws, once it is checked."""
    drawn = np.asarray(self.sampler.sample(count, self.rng))
    if drawn.shape == (count,) and drawn.dtype.kind in 'iu' and (
        self.first_item <= drawn.min() and drawn.max() < self.next_item):
      return drawn
    raise errors.UserError(
        f'{type(self.sampler).__name__} drew {drawn.dtype}{list(drawn.shape)} '
        f'{drawn.ravel()[:8].tolist()}; sample({count}, rng) returns [{count}] '
        f'items of those that replay added to it and did not remove, now '
        f'{self.first_item} to {self.next_item - 1} '
        '(dv3.interfaces.Sampler)')

  def _check_steps(self, steps, workers: list[int]) -> None:
    """Raises UserError for steps that would be stored other than meant."""
    if len(set(workers)) < len(workers) or not (
        0 <= min(workers, default=0)
        and max(workers, default=0) < self.workers):
      raise errors.UserError(
          f'replay got steps of the workers {workers}; give each of 0 to '
          f'{self.workers - 1} at most one step a call')
    count = len(workers)
    if count not in self._forms:
      self._forms[count] = [
          (name, (count, *spec.shape), np.dtype(spec.dtype))
          for name, spec in self.specs.items()]
    for name, shape, dtype in self._forms[count]:
      value = steps.get(name)
      if not (isinstance(value, np.ndarray) and value.shape == shape
              and value.dtype == dtype):
        _check_entry(steps, name, shape, dtype)

  def gather(self, items: np.ndarray, piece: int = 0) -> dict[str, np.ndarray]:
    """Reads one piece of drawn sequences.

    Args:
      items: [B], what `draw` returned.
      piece: below P; a later piece starts from the latents after the one
        before (`context.carried`), not from the stored ones.

    Returns:
      {name: [B, T, ...]}: the entries of `context.apply`, 'stepid' [B, T] int64
      and 'item' [B] int64. The arrays are overwritten by the gather that is
      `staged_batches` after this one (without it by the P + 1st).

    Raises:
      LookupError: if items were dropped that are not of the last draw.
    """
    with self._lock:
      last_draw = self._drawn is not None and np.array_equal(
          items, self._drawn)
      if last_draw and self._rescued is not None:
        batch = self._rescued[piece]
      elif (items < self.first_item).any():
        raise LookupError('items were dropped; gather before the next draw')
      else:
        batch = self._read(items, piece)
      if last_draw and piece == self.consecutive - 1:
        self._drawn = self._rescued = None
      return batch

  def sample(self, batch_size: int) -> dict[str, np.ndarray]:
    """Draws and gathers the first piece."""
    return self.gather(self.draw(batch_size))

  def write_latents(
      self, stepid: np.ndarray, latents: dict[str, np.ndarray]) -> None:
    """Overwrites the latents of trained steps.

    Args:
      stepid: [B, T] as in the batch; the first of each row says where.
      latents: {'latent/<name>': [B, T, ...]}. Steps that were dropped are
        ignored.
    """
    with self._lock:
      start = self.chunks.position_of(stepid[:, 0])
      rows = start >= 0
      positions = self.chunks.walk(start[rows], stepid.shape[1])
      there = positions >= 0
      self._protect(positions[there] // self.chunks.chunk_steps)
      unknown = sorted(latents.keys() - self.chunks.arrays.keys())
      if unknown:
        raise errors.UserError(
            f'replay stores no {unknown}; name them in its specs, or leave '
            'them out')
      for name, value in latents.items():
        value = np.asarray(value)[rows]
        self.chunks.arrays[name][positions[there]] = value[there]

  def update_sampler(
      self, items: np.ndarray, signals: dict[str, np.ndarray],
      piece: int = 0) -> None:
    """Tells the sampler what an update said about items that still exist.

    Args:
      items: [B], of the batch.
      signals: {name: [B, T]} of the trained steps, for example their losses.
      piece: which piece was trained.
    """
    with self._lock:
      rows = items >= self.first_item
      items = items[rows]
      positions = self.chunks.walk(
          self.starts[items % self.capacity], self.stored_length)
      begin = piece * self.length + self.context
      ends = self.chunks.ends[positions[:, begin: begin + self.length]]
      ends = np.where(ends >= self.first_item, ends, -1)
      self.sampler.update(
          items, {k: np.asarray(v)[rows] for k, v in signals.items()}, ends)

  def save(self, folder) -> None:
    """Writes what belongs to a checkpoint; see `saving`."""
    self.snapshot().write(folder)

  def snapshot(self) -> snapshot_lib.Snapshot:
    """Returns what `save` writes, to be written while replay goes on."""
    with self._lock:
      taken = saving.take(self)
      self._snapshots.append(taken)
      return taken

  def load(self, folder) -> None:
    """Restores what `save` wrote; see `saving.load`."""
    with self._lock:
      saving.load(self, folder)

  def prune(self, keep) -> None:
    """Deletes chunk files that no checkpoint of `keep` needs."""
    if self.writer is not None:
      storage.prune(self.writer.directory, keep)

  def _protect(self, slots: np.ndarray) -> None:
    """Keeps for snapshots what chunks hold, before it changes."""
    if self._snapshots:
      self._snapshots = [x for x in self._snapshots if not x.done]
      for snapshot in self._snapshots:
        snapshot.protect(np.unique(slots).tolist())

  def _drop(self, count: int) -> None:
    """Drops the oldest sequences, gathering first what was drawn of them."""
    items = np.arange(self.first_item, self.first_item + count)
    if self._rescued is None and self._drawn is not None and (
        self._drawn <= items[-1]).any():
      self._rescued = [
          self._read(self._drawn, piece) for piece in range(self.consecutive)]
    self.sampler.remove(items)
    self.first_item += count
    self.chunks.release(self.starts[items % self.capacity])

  def _insert(self, starts, ends, counts) -> None:
    """Makes sequences available, dropping the oldest where it is full."""
    excess = len(self) + len(starts) - self.capacity
    if excess > 0:
      self._drop(excess)
    items = np.arange(self.next_item, self.next_item + len(starts))
    self.starts[items % self.capacity] = starts
    self.chunks.ends[ends] = items
    self.next_item += len(starts)
    self.sampler.add(items)
    self.sampler.mark_ends(items[self.chunks.arrays['is_last'][ends]])
    if self.online:
      # counts - 1 is the number of the step that was added, from 0.
      fresh = (counts - 1) % self.stored_length == 0
      self.queue.extend(items[fresh].tolist())

  def _open_chunk(self, worker: int) -> None:
    """Gives a worker a new chunk and has the full one written."""
    while self.chunks.next_slot < 0:  # Fragments, left by damage or workers.
      self._drop(min(len(self), self.chunks.chunk_steps))
    if self.writer is not None:
      # The slot's former chunk may still be being written.
      self.writer.wait(self.chunks, self.chunks.next_slot)
    self._protect(np.array([self.chunks.next_slot]))
    full = self.chunks.open(worker)
    # A checkpoint that was taken with the chunk just full has written it, and
    # one whose sequences are all gone is free again.
    if self.writer is not None and full >= 0 and (
        self.chunks.checksum[full] < 0) and self.chunks.identifier[full] >= 0:
      self.writer.submit(self.chunks, full)

  def _read(self, items, piece: int) -> dict[str, np.ndarray]:
    """Copies one piece of sequences into staging buffers."""
    arrays = self.chunks.arrays
    whole = self.chunks.walk(
        self.starts[items % self.capacity], self.stored_length)
    begin = piece * self.length
    positions = whole[:, begin: begin + self.context + self.length]
    trained = positions[:, self.context:]
    buffers = self._staging.turn()
    batch = {'item': items.copy(), 'stepid': self.chunks.stepid(trained)}
    for name, array in arrays.items():
      taken = positions[
          :, context_lib.window(name, self.length, self.context)]
      if context_lib.is_latent(name):
        if self.context:
          batch[name] = array[taken[:, 0]]
        continue
      out = staging.buffer(
          buffers, name, (*trained.shape, *array.shape[1:]), array.dtype)
      batch[context_lib.batch_name(name)] = out
      if taken.shape != trained.shape:  # Actions without context.
        out[:, 0] = 0
        out = out[:, 1:]
      staging.copy(array, taken, out)
    flags = context_lib.annotate(
        arrays['is_first'][whole], arrays['is_last'][whole])
    part = slice(begin + self.context, begin + self.context + self.length)
    batch['is_first'], batch['is_last'] = (x[:, part] for x in flags)
    return batch
