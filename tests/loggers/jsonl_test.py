"""The JSON lines: strict, whole after kills and full disks, cut on resume."""

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.loggers import lines


def _reject(text):
  raise AssertionError(f'{text} is not strict JSON')


def _read(path):
  return [
      json.loads(line, parse_constant=_reject)
      for line in path.read_text().splitlines()]


def _episode(step, score=1.0, length=10):
  return types.Episode(step, score, length, 0, False, {})


@pytest.fixture
def logger(tmp_path):
  logger = registry.get('logger', 'jsonl')(logdir=tmp_path)
  yield logger
  logger.close()


def test_lines_are_strict_json_with_the_agreed_keys(tmp_path, logger):
  logger.write(np.int64(30), {
      'loss/total': np.float32(0.5), 'updates': np.int64(7), 'inf': np.inf,
      'nan': np.float32('nan'), 'video': np.zeros((2, 4, 4, 3), np.uint8),
      'text': 'hello'})
  logger.write(31, {'video': np.zeros((2, 4, 4, 3), np.uint8)})
  logger.episode(_episode(40, score=np.float32(2.5), length=np.int32(9)))
  assert _read(tmp_path / 'metrics.jsonl') == [{
      'step': 30, 'loss/total': 0.5, 'updates': 7, 'inf': None, 'nan': None}]
  assert _read(tmp_path / 'scores.jsonl') == [
      {'step': 40, 'episode/score': 2.5, 'episode/length': 9}]


def test_a_metric_of_another_shape_is_named(logger):
  with pytest.raises(ValueError, match="'histogram'.*\\(3,\\)"):
    logger.write(1, {'histogram': np.zeros(3)})


def test_truncate_cuts_both_files_back_to_the_step(tmp_path, logger):
  for step in (10, 20, 20, 30):
    logger.episode(_episode(step))
    logger.write(step, {'x': step})
  logger.truncate(20)
  logger.episode(_episode(25))
  for name in ('scores.jsonl', 'metrics.jsonl'):
    steps = [line['step'] for line in _read(tmp_path / name)]
    assert steps == [10, 20, 20, 25][:3 + (name == 'scores.jsonl')]


@pytest.mark.parametrize('torn', [
    b'{"step": 3, "episode/sc', b'{"step": 3}', b'\0' * 40, b'\0\0\n\0\0\n',
    b'{"step": 2}\ngarbage\n', b'7\n'])
def test_a_torn_end_is_repaired_on_opening(tmp_path, torn):
  path = tmp_path / 'scores.jsonl'
  whole = b'{"step": 1}\n' + (b'{"step": 2}\n' if b'2' in torn else b'')
  path.write_bytes(b'{"step": 1}\n' + torn)
  file = lines.LineFile(path)
  assert path.read_bytes() == whole
  file.append({'step': 4})
  file.close()
  assert [line['step'] for line in _read(path)][-1] == 4


def test_a_file_with_nothing_whole_becomes_empty(tmp_path):
  path = tmp_path / 'scores.jsonl'
  path.write_bytes(b'{"ste')
  lines.LineFile(path).close()
  assert path.read_bytes() == b''


def test_a_killed_process_loses_no_finished_line(tmp_path):
  code = f'''
from dv3.loggers import lines
file = lines.LineFile({str(tmp_path / 'scores.jsonl')!r})
step = 0
while True:
  step += 1
  file.append({{'step': step}})
  print(step, flush=True)
'''
  process = subprocess.Popen(
      [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
  while int(process.stdout.readline()) < 50:
    pass
  process.send_signal(signal.SIGKILL)
  rest = process.communicate()[0].split('\n')  # The last one may be torn.
  seen = max([50, *map(int, rest[:-1])])
  lines.LineFile(tmp_path / 'scores.jsonl').close()
  steps = [line['step'] for line in _read(tmp_path / 'scores.jsonl')]
  assert steps == list(range(1, len(steps) + 1))
  assert len(steps) >= seen


def test_a_full_disk_is_one_clear_error_and_leaves_whole_lines(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  file = lines.LineFile(path)
  file.append({'step': 1})
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  # A file-size limit acts as a full disk does: part of the line fits.
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
  try:
    with pytest.raises(errors.UserError, match='metrics.jsonl.*space') as info:
      file.append({'step': 2, 'x' * 2000: 1})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert '\n' not in str(info.value)
  assert _read(path) == [{'step': 1}]
  file.append({'step': 2})
  assert [line['step'] for line in _read(path)] == [1, 2]
  file.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='file/run/scores.jsonl'):
    lines.LineFile(tmp_path / 'file' / 'run' / 'scores.jsonl')


def test_reopening_appends(tmp_path):
  for step in (1, 2):
    logger = registry.get('logger', 'jsonl')(logdir=os.fspath(tmp_path))
    logger.episode(_episode(step))
    logger.close()
    logger.close()
  assert [x['step'] for x in _read(tmp_path / 'scores.jsonl')] == [1, 2]


def test_appending_opens_the_file_once(tmp_path, monkeypatch):
  file = lines.LineFile(tmp_path / 'scores.jsonl')
  file.append({'step': 0})
  monkeypatch.setattr(os, 'open', _reject)
  monkeypatch.setattr('builtins.open', _reject)
  for step in range(1, 1000):
    file.append({'step': step, 'episode/score': 1.5, 'episode/length': 3})
  file.close()
  monkeypatch.undo()
  assert len(_read(tmp_path / 'scores.jsonl')) == 1000
