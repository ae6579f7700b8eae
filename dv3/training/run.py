"""A run: everything that training holds, built from its choices."""

import json
import pathlib
import threading
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from dv3 import errors
from dv3.training import checkpoints


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
    return {'pending': self._pending or {}}

  def load(self, state: dict[str, Any]) -> None:
    """Restores `state()`."""
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

  def spend(self) -> bool:
    """Takes one update if one is due."""
    if self.credit < 1.0 - 1e-9:  # Sums of fractions such as 1 / 3.
      return False
    self.credit -= 1.0
    return True


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

  def due(self) -> bool:
    """Whether the interval has passed; starts the next one if so."""
    if self._seconds <= 0 or self._now() - self._last < self._seconds:
      return False
    self._last = self._now()
    return True


class Stop:
  """Becomes true on the first SIGINT or SIGTERM, for a clean end.

  A second signal ends the process at once.
  """

  def __init__(self):
    self.requested: str | None = None

  def install(self) -> None:
    """Takes over the signals; in the main thread only."""
    import os
    import signal
    if threading.current_thread() is not threading.main_thread():
      return
    def handle(number, frame):
      del frame
      if self.requested:
        os._exit(1)
      self.requested = signal.Signals(number).name
      logging.info('%s: saving, then stopping', self.requested)
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, handle)


def save(
    folder: pathlib.Path, *, update, replay, collector, pipeline, feed, credit,
    config_text: str) -> None:
  """Writes everything that must survive into a checkpoint folder."""
  checkpoints.write_variables(folder, **trackables(update))
  (folder / 'replay').mkdir()
  state = {
      'feed': feed.state(), 'collector': collector.state(),
      'pipeline': pipeline.state(),
      'credit': credit.credit}
  replay.save(folder / 'replay')
  checkpoints.write_state(folder, 'state', state)
  (folder / 'config.gin').write_text(config_text)
  (folder / 'summary.json').write_text(json.dumps({
      'env_steps': collector.env_steps, 'updates': int(update.updates)}))


def restore(
    folder: pathlib.Path, *, update, replay, collector, pipeline, feed, credit
) -> None:
  """Restores what `save` wrote."""
  checkpoints.read_variables(folder, **trackables(update))
  replay.load(folder / 'replay')
  state = checkpoints.read_state(folder, 'state')
  feed.load(state['feed'])
  collector.load(state['collector'])
  pipeline.load(state['pipeline'])
  credit.credit = state['credit']


def trackables(update) -> dict[str, Any]:
  """Returns the named objects whose variables a checkpoint holds."""
  return {
      'agent': update.agent, 'updates': update.updates,
      **{f'optimizer_{g.name}': g.optimizer for g in update.groups}}


def check_finite(losses, metrics, batch, update, logdir) -> None:
  """Reports an update that was not finite, and dumps its batch.

  Raises:
    UserError: naming tensor and update; the agent is as before the update.
  """
  if metrics['finite']:
    return
  names = [k for k, v in losses.items() if not np.isfinite(v)]
  names = names or ['the gradient']
  number = int(update.updates)
  path = pathlib.Path(logdir) / f'not_finite-{number}.npz'
  np.savez(path, **batch)
  raise errors.UserError(
      f'update {number}: {", ".join(names)} is not finite; the agent was left '
      f'as it was and the batch is in {path}. Look there for extreme rewards '
      'or observations; the same command resumes at the last checkpoint')


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
