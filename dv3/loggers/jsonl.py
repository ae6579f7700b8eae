"""Metrics and scores as JSON lines."""

import os
import pathlib

from dv3 import interfaces
from dv3 import registry
from dv3.loggers import lines
from dv3.loggers import values


@registry.register('logger', 'jsonl')
class JsonLines(interfaces.Logger):
  """Writes `metrics.jsonl` and `scores.jsonl`.

    {"step": 10000, "loss/reward": 0.21, "rate/updates_per_second": 31.0}
    {"step": 10174, "episode/score": 188.0, "episode/length": 188}

  `step` counts env steps. A metrics line holds the numbers of one `write`, a
  scores line one finished episode. Every line is strict JSON: NaN and
  infinities are written as null. See `lines.LineFile` for what survives.

  Args:
    logdir: the run's folder.
  """

  def __init__(self, *, logdir: str | os.PathLike):
    folder = pathlib.Path(logdir)
    self._metrics = lines.LineFile(folder / 'metrics.jsonl')
    self._scores = lines.LineFile(folder / 'scores.jsonl')

  def write(self, step, metrics):
    numbers = values.split(metrics).numbers
    if numbers:
      self._metrics.append({'step': int(step), **numbers})

  def episode(self, episode):
    self._scores.append({
        'step': int(episode.step),
        'episode/score': float(episode.score),
        'episode/length': int(episode.length)})

  def truncate(self, step):
    self._metrics.truncate(step)
    self._scores.truncate(step)

  def flush(self):
    self._metrics.flush()
    self._scores.flush()

  def close(self):
    self._metrics.close()
    self._scores.close()
