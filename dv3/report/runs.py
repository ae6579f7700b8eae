"""Finds runs, and reads their scores and configurations."""

import fnmatch
import json
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from absl import logging

from dv3 import errors
from dv3.config import reader
from dv3.config import resume

_TASK_ARGUMENTS = ('id', 'task', 'game', 'level', 'name')
"""Arguments of an environment that say what is played, the best first."""


class Run(NamedTuple):
  """One run.

  Attributes:
    path: the run directory.
    task: what is played; the folder's name where no configuration says it.
    seed: as written in the configuration; else the run directory's name.
    variant: what tells it from other runs of the task, '' for nothing:
      ((parameter, value as gin text), ...).
    steps: [E] int64, env steps at the end of each episode.
    scores: [E] float64, undiscounted sums of rewards.
    config_text: the text of config.gin, '' if there is none.
  """

  path: pathlib.Path
  task: str
  seed: str
  variant: tuple[tuple[str, str], ...]
  steps: np.ndarray
  scores: np.ndarray
  config_text: str


def find(logdirs: Iterable[str]) -> list[Run]:
  """Reads the runs in the given folders, at any depth, each once.

  Raises:
    UserError: if a folder does not exist, holds no run, or no episode ended.
  """
  paths: dict[pathlib.Path, None] = {}
  for logdir in logdirs:
    folder = pathlib.Path(logdir)
    if not folder.is_dir():
      raise errors.UserError(
          f'{logdir} is not a folder; give run directories, or a folder that '
          'holds them, as --logdir')
    found = sorted(_holding(folder))
    if not found:
      raise errors.UserError(
          f'{logdir} holds no scores.jsonl; give the run directories that '
          'dv3-train wrote as --logdir')
    paths.update(dict.fromkeys(path.resolve() for path in found))
  configs = {path: _read_config(path / 'config.gin') for path in paths}
  runs = [_read(path, config) for path, config in configs.items()]
  if not any(len(run.steps) for run in runs):
    raise errors.UserError(
        f'no episode has ended yet in {", ".join(str(p) for p in paths)}; '
        'report again later')
  return _tell_apart(runs, configs)


def _holding(folder: pathlib.Path) -> Iterable[pathlib.Path]:
  """Yields the folders with scores, behind links too, each once."""
  seen = set()
  for path, folders, names in os.walk(folder, followlinks=True):
    real = os.path.realpath(path)
    if real in seen:
      folders.clear()  # A link to above, or to what was walked already.
      continue
    seen.add(real)
    if 'scores.jsonl' in names:
      yield pathlib.Path(path)


def read_scores(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Reads scores.jsonl; a line that is being written is left out.

  Returns:
    (env steps [E] int64, scores [E] float64) of episodes with a finite score.
  """
  steps, scores = [], []
  for line in path.read_bytes().splitlines():
    try:
      record = json.loads(line)
      step, score = int(record['step']), float(record['episode/score'])
    except (ValueError, TypeError, KeyError, OverflowError):
      continue
    if np.isfinite(score):
      steps.append(step)
      scores.append(score)
  return np.array(steps, np.int64), np.array(scores, np.float64)


def _read(path, config):
  """Returns a run; its variant is not known yet."""
  steps, scores = read_scores(path / 'scores.jsonl')
  file = path / 'config.gin'
  return Run(
      path, _task(config) or path.parent.name,
      config.get('train.seed', path.name), (), steps, scores,
      file.read_text(errors='replace') if file.is_file() else '')


def _read_config(path):
  """Returns {parameter: value as gin text}, macros expanded; {} without."""
  if not path.is_file():
    return {}
  try:
    bindings = list(reader.read_file(str(path), sealed=True))
    macros = {b.argument: b for b in bindings if not b.selector}
    return {
        b.name.removeprefix('dv3.'): repr(reader.expand(b.value, macros))
        for b in bindings if b.selector}
  except errors.UserError as error:
    logging.warning('%s; this run is named by its folders', error)
    return {}


def _task(config):
  """Returns what is played, '' if the configuration does not say."""
  chosen = config.get('train.env', '').lstrip('@').removesuffix('()')
  values = {
      name.rpartition('.')[2]: value.strip('\'"')
      for name, value in config.items()
      if name.rpartition('.')[0] == chosen and value[:1] in ('"', "'")}
  named = [values[x] for x in _TASK_ARGUMENTS if x in values]
  return ' '.join(named[:1]) or chosen.removeprefix('env.')


def _tell_apart(runs, configs):
  """Gives runs of one task the settings in which they differ.

  What may change when a run is resumed, the seed above all, does not count.
  """
  result = []
  for run in runs:
    others = [configs[r.path] for r in runs if r.task == run.task]
    names = sorted(set().union(*others))
    result.append(run._replace(variant=tuple(
        (name, configs[run.path].get(name, 'default')) for name in names
        if configs[run.path]
        and not any(fnmatch.fnmatch(name, x) for x in resume.MAY_CHANGE)
        and len({c.get(name) for c in others if c}) > 1)))
  return result
