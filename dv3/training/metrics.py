"""Metrics between two log lines: means, rates, times, memory, episodes."""

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from dv3 import types

_REDUCE = {'max': np.max, 'min': np.min, 'sum': np.sum, 'last': lambda x: x[-1]}

_FOLD = 64
"""So many values are kept before they are reduced, which bounds memory."""


class Metrics:
  """Gathers what happens between two log lines.

    metrics = Metrics(env_steps=0, updates=0)
    with metrics.section('train'):
      metrics.add({'loss/total': loss, 'gradient_norm_max': norm})
    metrics.episode(episode)
    line = metrics.result(env_steps=1000, updates=250)

  The end of a metric's name says how its values become one: `_max`, `_min`,
  `_sum`, `_last`; every other name is a weighted mean. Values are read late, so
  `add` does not wait for the device. One thread only.

  Args:
    **counters: what counts up, at the start; `result` gives rates of them.
  """

  def __init__(self, **counters: int):
    self._counters = counters
    self._clear()

  def _clear(self):
    self._start = time.perf_counter()
    self._values: dict[str, list[tuple[Any, float]]] = {}
    self._seconds: dict[str, float] = {}
    self._open: list[float] = []  # Seconds inside inner sections, by depth.
    self._episodes: list[types.Episode] = []

  def add(self, values: Mapping[str, Any], weight: float = 1.0) -> None:
    """Takes in scalars.

    Args:
      values: {name: scalar}, of Python, NumPy, or anything with `.numpy()`.
      weight: share in the mean, above 0; for example replayed steps.
    """
    for name, value in values.items():
      kept = self._values.setdefault(name, [])
      kept.append((value, weight))
      if len(kept) >= _FOLD:
        self._values[name] = [_reduce(name, kept)]

  @contextlib.contextmanager
  def section(self, name: str):
    """Times a section; time in sections inside of it is not counted twice."""
    start = time.perf_counter()
    self._open.append(0.0)
    try:
      yield
    finally:
      elapsed = time.perf_counter() - start
      inner = self._open.pop()
      if self._open:
        self._open[-1] += elapsed
      self._seconds[name] = self._seconds.get(name, 0.0) + elapsed - inner

  def episode(self, episode: types.Episode) -> None:
    """Takes in a finished episode."""
    self._episodes.append(episode)

  def result(self, **counters: int) -> dict[str, float]:
    """Returns the metrics since the last call, and starts anew.

    Must be called outside of sections.

    Args:
      **counters: the present values of the counters given at the start.

    Returns:
      {name: number}: all added names; `count/<counter>`;
      `rate/<counter>_per_second`; `time/<section>_share` in [0, 1];
      `memory/resident_bytes` of this process; and if an episode ended,
      `episode/count`, `episode/score` and `episode/length` (means),
      `episode/score_min`, `episode/score_max`, `episode/truncated_share` and
      each of the extras, reduced as its name says.
    """
    elapsed = max(time.perf_counter() - self._start, 1e-9)
    line = {name: _reduce(name, kept)[0] for name, kept in self._values.items()}
    line |= _episode_metrics(self._episodes)
    for name, now in counters.items():
      line[f'count/{name}'] = now
      line[f'rate/{name}_per_second'] = (
          now - self._counters.get(name, 0)) / elapsed
    for name, seconds in self._seconds.items():
      line[f'time/{name}_share'] = seconds / elapsed
    memory = resident_bytes()
    if memory is not None:
      line['memory/resident_bytes'] = memory
    self._counters = counters
    self._clear()
    return line


def _reduce(name, kept):
  """Returns (value, weight) that stands for all (value, weight) in `kept`."""
  numbers = np.array(
      [float(x.numpy() if hasattr(x, 'numpy') else x) for x, _ in kept])
  weights = np.array([weight for _, weight in kept], np.float64)
  stem, _, suffix = name.rpartition('_')
  reduce = _REDUCE.get(suffix) if stem else None
  value = reduce(numbers) if reduce else np.average(numbers, weights=weights)
  return float(value), float(weights.sum())


def _episode_metrics(episodes: list[types.Episode]) -> dict[str, float]:
  """Returns the statistics of episodes; nothing if there are none."""
  if not episodes:
    return {}
  scores = [episode.score for episode in episodes]
  line = {
      'episode/count': len(episodes),
      'episode/score': float(np.mean(scores)),
      'episode/score_min': float(np.min(scores)),
      'episode/score_max': float(np.max(scores)),
      'episode/length': float(np.mean([x.length for x in episodes])),
      'episode/truncated_share': float(
          np.mean([x.truncated for x in episodes])),
  }
  for name in sorted({name for x in episodes for name in x.extras}):
    values = [(x.extras[name], 1.0) for x in episodes if name in x.extras]
    line[f'episode/{name}'] = _reduce(name, values)[0]
  return line


def resident_bytes() -> int | None:
  """Returns this process's resident memory; None where there is no /proc."""
  try:
    with open('/proc/self/statm', encoding='ascii') as file:
      return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
  except OSError:
    return None
