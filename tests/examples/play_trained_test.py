"""The example that plays a trained agent in a loop of one's own works."""

import pathlib
import runpy
import subprocess
import sys

import pytest

EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples/play_trained.py'
SMALL = (
    'DETER = 16', 'HIDDEN = 8', 'UNITS = 8', 'STEPS = 40',
    'train.batch_size = 2', 'train.batch_length = 8',
    'REPLAYED_STEPS_PER_ENV_STEP = 1')


def _run(*arguments):
  return subprocess.run(
      [sys.executable, *arguments], capture_output=True, text=True,
      check=False, timeout=300)


def test_a_trained_agent_plays(tmp_path):
  run = tmp_path / 'run'
  trained = _run(
      '-m', 'dv3.bin.train', '--gin_file=preset/quickstart.gin',
      f'--logdir={run}', *(f'--gin_param={x}' for x in SMALL))
  assert trained.returncode == 0, trained.stderr[-2000:]
  played = _run(str(EXAMPLE), str(run), '3')
  # CartPole's pole falls after 8 steps or more.
  word, score = played.stdout.split()[-2:]
  assert word == 'score' and 8 <= float(score) <= 500, played.stderr[-2000:]


@pytest.mark.parametrize('arguments', [
    [], ['runs/quickstart', 'one'], ['runs/quickstart', '-1'],
    ['runs/quickstart', '1', '2']])
def test_other_arguments_are_answered_with_the_usage(arguments, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['play_trained.py', *arguments])
  with pytest.raises(SystemExit, match=r'play_trained.py runs/quickstart \['):
    runpy.run_path(str(EXAMPLE), run_name='__main__')
