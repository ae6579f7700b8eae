"""Runs on disk: tasks, seeds, variants, damaged files."""

import json

import numpy as np
import pytest

from dv3 import errors
from dv3.report import runs as runs_lib

_CONFIG = '''# written by dv3
# dv3: {{"version": "0", "sources": [], "plugins": []}}

SEED = {seed}
TASK = @env.gymnasium

core.rssm.deter = {deter}

dv3.train.env = %TASK
dv3.train.env_steps = {budget}
dv3.train.seed = %SEED

env.gymnasium.id = 'ALE/Pong-v5'
env.other.id = 'Other'
'''


def _write(folder, records, **config):
  folder.mkdir(parents=True)
  (folder / 'scores.jsonl').write_text(''.join(
      json.dumps({'step': step, 'episode/score': score, 'episode/length': 1})
      + '\n' for step, score in records))
  if config:
    (folder / 'config.gin').write_text(_CONFIG.format(**config))


def test_configuration_names_task_seed_and_variant(tmp_path):
  _write(tmp_path / 'a', [(1, 2.0)], seed=3, deter=512, budget=10)
  _write(tmp_path / 'b', [(1, 2.0)], seed=4, deter=1024, budget=20)
  first, second = runs_lib.find([str(tmp_path), str(tmp_path / 'a')])
  assert (first.task, second.task) == ('ALE/Pong-v5', 'ALE/Pong-v5')
  assert (first.seed, second.seed) == ('3', '4')
  # The seed and the budget are no variants.
  assert first.variant == (('core.rssm.deter', '512'),)
  assert second.variant == (('core.rssm.deter', '1024'),)
  assert first.config_text.startswith('# written by dv3')


def test_seeds_of_one_configuration_are_one_variant(tmp_path):
  for seed in range(2):
    _write(tmp_path / str(seed), [(1, 2.0)], seed=seed, deter=5, budget=10)
  assert [run.variant for run in runs_lib.find([str(tmp_path)])] == [(), ()]


def test_without_a_configuration_folders_are_the_names(tmp_path):
  _write(tmp_path / 'cartpole' / 'seed1', [(1, 2.0)])
  _write(tmp_path / 'cartpole' / 'seed0', [(1, 2.0)])
  (tmp_path / 'cartpole' / 'seed0' / 'config.gin').write_text('import os\n')
  found = runs_lib.find([str(tmp_path)])
  assert [(run.task, run.seed) for run in found] == [
      ('cartpole', 'seed0'), ('cartpole', 'seed1')]


def test_links_are_followed_once(tmp_path):
  _write(tmp_path / 'disk' / 'a', [(1, 2.0)])
  folder = tmp_path / 'runs'
  folder.mkdir()
  (folder / 'linked').symlink_to(tmp_path / 'disk' / 'a')
  (folder / 'again').symlink_to(tmp_path / 'disk' / 'a')
  (folder / 'above').symlink_to(folder)
  assert [run.path for run in runs_lib.find([str(folder)])] == [
      tmp_path / 'disk' / 'a']


def test_damaged_lines_are_left_out(tmp_path):
  path = tmp_path / 'scores.jsonl'
  path.write_text(
      '{"step": 1, "episode/score": 2.5}\n{"step": 2, "episode/score": null}\n'
      '{"step": Infinity, "episode/score": 3}\n'
      '7\n{"step": 3, "episode/score": 4}\n{"step": 9, "epis')
  steps, scores = runs_lib.read_scores(path)
  np.testing.assert_array_equal(steps, [1, 3])
  np.testing.assert_array_equal(scores, [2.5, 4])


def test_what_is_missing_is_said(tmp_path):
  with pytest.raises(errors.UserError, match='nowhere is not a folder'):
    runs_lib.find([str(tmp_path / 'nowhere')])
  with pytest.raises(errors.UserError, match='no scores.jsonl'):
    runs_lib.find([str(tmp_path)])
  _write(tmp_path / 'run', [])
  with pytest.raises(errors.UserError, match='no episode has ended'):
    runs_lib.find([str(tmp_path)])
