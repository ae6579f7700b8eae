"""The rate of the whole training loop."""

import tempfile
from typing import Any

import gin
import numpy as np

from dv3 import errors
from dv3 import interfaces
from dv3.benchmarking import machine

_TIME = 'time/'


class _Done(Exception):
  """Ends training where enough was seen."""


class _Watch(interfaces.Logger):
  """Keeps the metrics of some intervals after the first update."""

  def __init__(self, windows: int):
    self._windows = windows
    self._learning = 0
    self.kept: list[dict[str, float]] = []
    self.first_update_seconds: float | None = None

  def built(self):
    """Notes the time of the first update."""
    self.first_update_seconds = machine.process_seconds()

  def write(self, step, metrics):
    del step
    if not metrics.get('count/updates'):
      return
    self._learning += 1
    if self._learning > 1:  # The first interval has the compilation.
      self.kept.append(metrics)

  def progress(self, step, status):
    # Not in `write`, which a run that a signal stops calls once more.
    del step, status
    if len(self.kept) >= self._windows:
      raise _Done


def measure(*, windows: int, seconds: float) -> dict[str, Any]:
  """Runs the configured training for a while, in a temporary folder.

  Environments, replay with its files, updates and logging are those of
  training; videos are left out.

  Args:
    windows: intervals that count, after the one with the compilation; the
      medians over them are returned. Fewer if the run's budget ends before.
    seconds: of one interval.

  Returns:
    What `dv3-bench loop --json` prints.

  Raises:
    UserError: as `train` does, and if the run ends before an interval counts.
    KeyboardInterrupt: if a signal ends the run.
  """
  watch = _Watch(windows)
  train = gin.get_configurable('dv3.train')
  with tempfile.TemporaryDirectory(prefix='dv3-bench-') as folder:
    stopped = None
    try:
      stopped = train(
          logdir=folder, loggers=(lambda logdir: watch,),
          log_every_seconds=seconds, video_every_seconds=0.0,
          on_built=watch.built)['stopped']
    except _Done:
      pass
    except SystemExit as error:  # A signal, while all is built.
      raise KeyboardInterrupt from error
  if stopped:
    raise KeyboardInterrupt
  if not watch.kept:
    raise errors.UserError(
        f'the run ended before a whole interval of --seconds={seconds:g} with '
        'updates, after the one with the compilation; raise STEPS, or lower '
        '--seconds')
  return _result(watch)


def _result(watch) -> dict[str, Any]:
  rows = watch.kept
  median = lambda name: float(np.median(
      [row.get(name, 0.0) for row in rows]))
  sections = sorted({
      name for row in rows for name in row if name.startswith(_TIME)})
  shares = {
      name.removeprefix(_TIME).removesuffix('_share'): median(name)
      for name in sections}
  shares['other'] = max(0.0, 1.0 - sum(shares.values()))
  return {
      'env_steps_per_second': median('rate/env_steps_per_second'),
      'updates_per_second': median('rate/updates_per_second'),
      'time_shares': shares,
      'windows': len(rows),
      'first_update_seconds': watch.first_update_seconds,
      'resident_bytes': median('memory/resident_bytes'),
      'peak_rss_bytes': machine.peak_rss_bytes()}
