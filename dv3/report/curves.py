"""Learning curves and final scores over seeds."""

import gzip
import json
import pathlib
import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dv3 import errors
from dv3.report import runs as runs_lib

Series = tuple[np.ndarray, np.ndarray]
"""Env steps [E], increasing, and scores [E]."""


class Curve(NamedTuple):
  """Scores of several seeds over env steps.

  Attributes:
    label: what the legend says.
    steps: [P] float64, env steps.
    mean: [P] float64, over the seeds that got that far; NaN where there are
      none.
    low: [P] float64, the worst of them.
    high: [P] float64, the best.
    seeds: how many there are.
  """

  label: str
  steps: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray
  seeds: int


class Row(NamedTuple):
  """One line of the summary.

  Attributes:
    task: what is played.
    variant: how its settings differ from other lines of the task.
    seeds: runs in which an episode ended.
    env_steps: of the run that got least far, and of the one that got furthest.
    mean: over seeds, of each one's mean score in its last tenth of env steps.
    deviation: their standard deviation (n - 1); None for one seed.
  """

  task: str
  variant: str
  seeds: int
  env_steps: tuple[int, int]
  mean: float
  deviation: float | None


def group(
    runs: Sequence[runs_lib.Run]
) -> dict[str, dict[str, list[runs_lib.Run]]]:
  """Returns {task: {variant's label: runs}}, without empty runs, sorted."""
  tasks: dict[str, dict[tuple, list]] = {}
  for run in sorted(runs, key=lambda run: (run.task, run.variant, run.path)):
    if len(run.steps):
      variants = tasks.setdefault(run.task, {})
      variants.setdefault(run.variant, []).append(run)
  result = {}
  for task, variants in tasks.items():
    labels = {variant: _label(variant) for variant in variants}
    unique = len(set(labels.values())) == len(labels)
    result[task] = {
        labels[variant] if unique else f'{labels[variant]} ({number})': members
        for number, (variant, members) in enumerate(variants.items(), 1)}
  return result


def _label(variant):
  """Returns the first differences in words."""
  parts = [f'{name} = {value}' for name, value in variant]
  shown = ', '.join(parts[:2])
  return shown + (f' and {len(parts) - 2} more' if len(parts) > 2 else '')


def curve(label: str, seeds: Sequence[Series], points: int = 60) -> Curve:
  """Returns the learning curve of several seeds.

  The env steps are cut into `points` equal bins up to the last episode. A
  seed's value at the end of a bin is the mean score of the episodes that ended
  in it; where none did, the value of the bin before.
  """
  last = max(steps[-1] for steps, _ in seeds)
  edges = np.linspace(0, last, points + 1)
  values = np.stack([_binned(*series, edges) for series in seeds])  # [N, P]
  alive = ~np.isnan(values).all(0)
  nothing = np.full(points, np.nan)
  mean, low, high = (nothing.copy() for _ in range(3))
  mean[alive] = np.nanmean(values[:, alive], 0)
  low[alive] = np.nanmin(values[:, alive], 0)
  high[alive] = np.nanmax(values[:, alive], 0)
  return Curve(label, edges[1:], mean, low, high, len(seeds))


def _binned(steps, scores, edges):
  """Returns [P] means in (edges[i], edges[i + 1]]; see `curve`."""
  points = len(edges) - 1
  index = np.clip(np.searchsorted(edges, steps, 'left') - 1, 0, points - 1)
  counts = np.bincount(index, minlength=points)
  sums = np.bincount(index, scores, minlength=points)
  values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
  for i in range(1, index.max() + 1):
    if counts[i] == 0:
      values[i] = values[i - 1]
  return values


def final_score(series: Series, share: float = 0.1) -> float:
  """Returns the mean score of the episodes in the last share of env steps."""
  steps, scores = series
  return float(scores[steps > (1 - share) * steps[-1]].mean())


def summarize(
    groups: Mapping[str, Mapping[str, Sequence[runs_lib.Run]]]) -> list[Row]:
  """Returns one row for each task and variant."""
  rows = []
  for task, variants in groups.items():
    for variant, runs in variants.items():
      finals = [final_score((run.steps, run.scores)) for run in runs]
      ends = [int(run.steps[-1]) for run in runs]
      rows.append(Row(
          task, variant, len(runs), (min(ends), max(ends)),
          float(np.mean(finals)),
          float(np.std(finals, ddof=1)) if len(finals) > 1 else None))
  return rows


def table(rows: Sequence[Row]) -> list[list[str]]:
  """Returns the summary as text, the heading first."""
  lines = [['task', 'variant', 'seeds', 'last episode at env step',
            'score, last 10 %']]
  for row in rows:
    low, high = (f'{steps:,}' for steps in row.env_steps)
    deviation = '' if row.deviation is None else f' +- {row.deviation:.1f}'
    lines.append([
        row.task, row.variant, str(row.seeds),
        high if low == high else f'{low} to {high}',
        f'{row.mean:.1f}{deviation}'])
  if not any(row.variant for row in rows):
    for line in lines:
      del line[1]
  return lines


def read_reference(
    path: str, action_repeat: int = 1) -> dict[str, list[Curve]]:
  """Reads published scores.

  Args:
    path: JSON, or gzip of it: a list of {task, method, seed, xs, ys}, where xs
      are environment frames, increasing, and ys scores or null.
    action_repeat: frames an env step.

  Returns:
    {task: [a curve for each method]}, over env steps.

  Raises:
    UserError: if the file cannot be read.
  """
  try:
    data = pathlib.Path(path).read_bytes()
    if data[:2] == b'\x1f\x8b':
      data = gzip.decompress(data)
    methods: dict[tuple[str, str], list[Series]] = {}
    for record in json.loads(data):
      pairs = [
          (x, y) for x, y in zip(record['xs'], record['ys'], strict=True)
          if y is not None]
      if pairs:
        steps, scores = np.array(pairs, np.float64).T
        methods.setdefault((record['task'], record['method']), []).append(
            (steps / action_repeat, scores))
  except (
      OSError, EOFError, ValueError, TypeError, KeyError, zlib.error) as error:
    raise errors.UserError(
        f'--reference={path} cannot be read: {error!r}; it must be JSON or '
        'gzip of it, a list of {task, method, seed, xs, ys}') from error
  result: dict[str, list[Curve]] = {}
  for (task, method), seeds in methods.items():
    result.setdefault(task, []).append(curve(f'{method} (published)', seeds))
  return result
