"""A run: everything that training holds, built from its choices."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from dv3 import errors
from dv3.training import checkpoints

_DUMPS = 5  # Batches of bad updates that stay on disk.


class Feed:
  """Draws batches from replay, one ahead of the update.

  Which sequences form a batch is decided when it is ordered, in the main
  thread, and the gather ends before anything else touches replay: the order of
  events, and so the run, does not depend on the threads' timing.

  Args:
    replay: a `Replay`.
    batch_size: sequences a batch.
  """

  def __init__(self, replay, batch_size: int):
    self._replay = replay
    self._batch_size = batch_size
    self._pool = futures.ThreadPoolExecutor(1, 'replay')
    self._pending: dict[str, np.ndarray] | None = None
    self._future: futures.Future | None = None

  def take(self) -> dict[str, np.ndarray]:
    """Returns the next batch and orders the one after it."""
    batch = self._pending
    if batch is None:
      batch = self._replay.sample(self._batch_size)
    self._pending = None
    items = self._replay.draw(self._batch_size)
    self._future = self._pool.submit(self._replay.gather, items)
    return batch

  def settle(self) -> None:
    """Waits for the ordered batch; call it before replay changes."""
    if self._future is not None:
      batch = self._future.result()
      self._pending = batch
      self._future = None

  def state(self) -> dict[str, Any]:
    """Returns the waiting batch, for the checkpoint."""
    self.settle()
    return {'pending': self._pending or {}, 'batch_size': self._batch_size}

  def load(self, state: dict[str, Any]) -> None:
    """Restores `state()`.

    Raises:
      UserError: if it was of batches of another size.
    """
    size = state.get('batch_size', self._batch_size)
    if size != self._batch_size:
      raise errors.UserError(
          f'the checkpoint is of batches of {size} sequences, and now they '
          f'have {self._batch_size}: under train.scaling the number of '
          'replicas is part of the configuration; start with as many as '
          'before, or choose another --logdir')
    self._pending = state['pending'] or None


class Credit:
  """Counts how many updates are due.

  Args:
    updates_per_env_step: replayed_steps_per_env_step / (batch x length).
  """

  def __init__(self, updates_per_env_step: float):
    self.updates_per_env_step = updates_per_env_step
    self.credit = 0.0

  def earn(self, env_steps: int) -> None:
    """Adds the updates that env steps bring."""
    self.credit += env_steps * self.updates_per_env_step

  def due(self, updates: int = 1) -> bool:
    """Whether so many updates are due."""
    return self.credit >= updates - 1e-9  # Sums of fractions such as 1 / 3.

  def spend(self, updates: int = 1) -> None:
    """Takes updates."""
    self.credit -= updates


class Clock:
  """Says when an interval of wall time has passed.

  Args:
    seconds: the interval; 0 or less means never.
    now: a monotonic clock.
  """

  def __init__(self, seconds: float, now):
    self._seconds = seconds
    self._now = now
    self._last = now()

  def due(self, lead: float = 0.0) -> bool:
    """Whether the interval has passed; starts the next one if so.

    Args:
      lead: seconds by which it is due earlier.
    """
    if self._seconds <= 0 or (
        self._now() - self._last < self._seconds - lead):
      return False
    self._last = self._now()
    return True


class Stop:
  """Becomes true on the first SIGINT or SIGTERM, for a clean end.

    with Stop() as stop:
      while not stop.requested: ...

  A second signal ends the process at once. Only the main thread gets signals;
  in another one nothing is done.

  Attributes:
    requested: the name of the signal, None before.
    hurry: called at the first signal, for what may be waited for too long.
  """

  def __init__(self):
    self.requested: str | None = None
    self.hurry: Callable[[], None] | None = None
    self._old: dict[int, Any] = {}

  def __enter__(self):
    self.listen()
    return self

  def listen(self) -> None:
    """Takes the signals over, again where something else has taken them.

    TensorFlow does so when it joins a cluster.
    """
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        old = signal.signal(number, self._handle)
        self._old.setdefault(number, old)

  @contextlib.contextmanager
  def leaving(self) -> Iterator[None]:
    """Lets the system end the process at a signal, in this context.

    For what waits in C++ and lets no Python run, handlers included, while there
    is nothing to save. TensorFlow takes SIGTERM for itself once it joins a
    cluster, so that Ctrl-C alone ends a worker that waits there.
    """
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    old = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
      yield
    finally:
      for number, handler in old.items():
        signal.signal(number, handler)

  def __exit__(self, *error):
    for number, old in self._old.items():
      signal.signal(number, old if old is not None else signal.SIG_DFL)

  def _handle(self, number, frame):
    del frame
    if self.requested:
      os._exit(1)
    self.requested = signal.Signals(number).name
    # Not `print`: the signal may have come in the middle of one.
    os.write(2, f'\n{self.requested}: saving, then stopping; once more to stop '
             'at once\n'.encode())
    if self.hurry is not None:
      self.hurry()


def save(
    folder: pathlib.Path, *, workers, tally, update, replay, collector,
    pipeline, feed, credit, config_text: str) -> Callable[[], None]:
  """Writes everything that must survive into a checkpoint folder.

  The chief writes what is the run's, every worker what is its own.

  Returns:
    What writes replay's part of it as it is now, later and in any thread.
  """
  if workers.is_chief:
    checkpoints.write_variables(folder, **trackables(update))
    (folder / 'config.gin').write_text(config_text)
    operative = folder.parents[1] / 'operative_config.gin'
    if operative.exists():  # Since the first update.
      shutil.copy(operative, folder)
    (folder / 'summary.json').write_text(json.dumps({
        'env_steps': tally.env_steps, 'updates': update.count,
        'workers': workers.count}))
  own = workers.folder(folder)
  (own / 'replay').mkdir(parents=True)
  state = {
      'feed': feed.state(), 'collector': collector.state(),
      'pipeline': pipeline.state(),
      'credit': credit.credit, 'env_steps': tally.env_steps}
  checkpoints.write_state(own, 'state', state)
  snapshot = replay.snapshot()
  return lambda: snapshot.write(own / 'replay')


def restore(
    folder: pathlib.Path, *, workers, tally, update, replay, collector,
    pipeline, feed, credit) -> None:
  """Restores what `save` wrote.

  Raises:
    UserError: if another number of workers wrote it, or with other variables.
  """
  wrote = json.loads((folder / 'summary.json').read_text())['workers']
  if wrote != workers.count:
    raise errors.UserError(
        f'the checkpoint {folder} is of {wrote} workers, each with its part of '
        f'replay, and now there are {workers.count}; start as many, or choose '
        'another --logdir')
  checkpoints.read_variables(folder, **trackables(update))
  own = workers.folder(folder)
  replay.load(own / 'replay')
  state = checkpoints.read_state(own, 'state')
  feed.load(state['feed'])
  collector.load(state['collector'])
  pipeline.load(state['pipeline'])
  credit.credit = state['credit']
  tally.env_steps = state['env_steps']


def set_earlier_aside(path: pathlib.Path) -> None:
  """Keeps what was logged by a run without a checkpoint, which begins anew.

  Its scores, metrics, events and videos move to `earlier-<n>`, the scores as
  `earlier-scores.jsonl`, which no report takes for a run's.

  Args:
    path: the run directory.
  """
  logs = [path / 'scores.jsonl', path / 'metrics.jsonl']
  if not any(x.is_file() and x.stat().st_size for x in logs):
    return
  number = 1
  while (path / f'earlier-{number}').exists():
    number += 1
  folder = path / f'earlier-{number}'
  folder.mkdir()
  for log in (*logs, path / 'videos', *path.glob('events.out.tfevents.*')):
    if log.exists():
      name = log.name.replace('scores.', 'earlier-scores.')
      os.replace(log, folder / name)
  logging.warning(
      '%s has no checkpoint, so the run begins anew; what it logged before is '
      'in %s', path, folder)


def trackables(update) -> dict[str, Any]:
  """Returns the named objects whose variables a checkpoint holds."""
  return {
      'agent': update.agent, 'updates': update.updates,
      **{f'optimizer_{g.name}': g.optimizer for g in update.groups}}


class BadUpdates:
  """Reports updates that were not finite, and ends the run after too many.

    bad_updates = BadUpdates(logdir, limit=5)
    losses, metrics, entries, per_step = update(batch)
    if bad_updates.check(number, batch, losses, metrics): ...   # it is skipped

  The update itself has left agent and optimizer as they were. The batch is
  written to not_finite-<update>.npz; the last few of these files stay.

  Args:
    logdir: the run directory.
    limit: that many in a row end the run; at least 1.
  """

  def __init__(self, logdir, limit: int):
    self._logdir = pathlib.Path(logdir)
    self._limit = max(limit, 1)
    self._row = 0

  def check(self, number: int, batch, losses, metrics) -> bool:
    """Whether the update was skipped, after saying what was not finite.

    Args:
      number: of the update, from 1.
      batch: {name: NumPy [B, ...]}, what it was given and more.
      losses: {name: float}, of the update.
      metrics: likewise, and 'bad_gradient', see `step.Update`.

    Raises:
      UserError: at the limit, naming update and tensors.
    """
    if metrics['finite']:
      self._row = 0
      return False
    self._row += 1
    bad = describe_bad(batch, losses, metrics['bad_gradient'])
    what = (
        f'update {number}: {bad} is not finite; {self._dump(number, batch)}')
    if self._row >= self._limit:
      raise errors.UserError(
          f'{what}. That is {self._row} in a row, as many as '
          'train.max_bad_updates allows; the agent was left as it was. Look in '
          'the batch for extreme rewards or observations; the same command '
          'resumes at the last checkpoint')
    logging.warning('%s. The update is skipped', what)
    return True

  def _dump(self, number, batch) -> str:
    """Writes a batch; returns where, or why not."""
    path = self._logdir / f'not_finite-{number}.npz'
    try:
      np.savez(path, **batch)
      dumps = self._logdir.glob('not_finite-*.npz')
      for old in sorted(dumps, key=lambda x: x.stat().st_mtime)[:-_DUMPS]:
        old.unlink()
    except OSError as error:  # It must not end the run.
      with contextlib.suppress(OSError):
        path.unlink()
      return f'the batch could not be written: {error.strerror or error}'
    return f'the batch is in {path}'


def describe_bad(batch, losses, gradient: str | None) -> str:
  """Returns the names of what is not finite, causes first."""
  names = []
  for name, value in batch.items():
    if np.issubdtype(value.dtype, np.floating):
      where = np.argwhere(~np.isfinite(value))
      if len(where):
        names.append(f'{name} {where[0].tolist()} of the batch')
  names += [f'the loss {k}' for k, v in losses.items() if not np.isfinite(v)]
  if gradient is not None:
    names.append(f'the gradient of {gradient} (or its norm)')
  return ', '.join(names) or 'the norm of the gradient'


def parameter_counts(agent) -> dict[str, int]:
  """Returns the trained parameters of each part, and 'total'."""
  count = lambda variables: sum(int(np.prod(v.shape)) for v in variables)
  names = (
      'encoder', 'core', 'decoder', 'reward', 'continue', 'actor', 'critic')
  counts = {name: count(agent.variables_of(name)) for name in names}
  counts['total'] = sum(counts.values()) + sum(
      count(agent.variables_of(name)) for name in ('losses', 'balancer'))
  return counts


def seed_everything(seed: int) -> None:
  """Seeds what draws the initial weights."""
  tf.random.set_seed(seed)
  np.random.seed(seed % 2 ** 32)
