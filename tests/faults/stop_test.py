"""Signals end a run cleanly, and it goes on as if nothing had happened."""

import pathlib
import signal
import time

import lives
import pytest

POINTS = {  # All of them in the middle of an episode of some environment.
    'collect': ('dv3.replay.replay.Replay.add', '', 41),
    'update': ('dv3.replay.replay.Replay.write_latents', '', 8),
    'save': ('dv3.training.checkpoints.write_variables', '', 1),
}


@pytest.mark.parametrize('name, number', [
    ('update', 'sigint'),
    pytest.param('collect', 'sigterm', marks=pytest.mark.slow),
    pytest.param('save', 'sigterm', marks=pytest.mark.slow)])
def test_stop_and_resume_is_exact(zygote, reference, tmp_path, name, number):
  logdir = tmp_path / 'run'
  output = lives.live(zygote, logdir, faults=[(*POINTS[name], number)])
  assert f'{number.upper()}: saving' in output
  if name != 'save':
    assert f'stopped by {number.upper()} at' in output
    assert lives.scores(logdir) != lives.scores(reference)
  assert 'goes on at ' in lives.live(zygote, logdir)
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])
  assert lives.scores(logdir) == lives.scores(reference)


@pytest.mark.slow
def test_several_updates_due_at_a_stop_are_made_up_for(zygote, tmp_path):
  # Five updates an env step: a stop after the second leaves three.
  often = '--gin_param=REPLAYED_STEPS_PER_ENV_STEP = 75.0'
  steps = '--gin_param=STEPS = 40'
  straight, logdir = tmp_path / 'straight', tmp_path / 'run'
  lives.live(zygote, straight, often, steps)
  lives.live(zygote, logdir, often, steps, faults=[
      ('dv3.replay.replay.Replay.write_latents', '', 7, 'sigterm')])
  lives.live(zygote, logdir, often, steps)
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(straight)[-1])


def endless(zygote, logdir, **kwargs):
  """Starts a run that does not end by itself; waits until it learns."""
  life = lives.Life(
      zygote, logdir, '--gin_param=STEPS = 1000000',
      '--gin_param=train.save_every_seconds = 0.001', **kwargs)
  deadline = time.monotonic() + lives.SECONDS
  while not lives.checkpoints(logdir) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert lives.checkpoints(logdir), life.output
  return life


def test_sigterm_ends_within_30_seconds(zygote, tmp_path, record_property):
  life = endless(zygote, tmp_path / 'run')
  start = time.monotonic()
  life.kill(signal.SIGTERM)
  assert life.wait() == 0, life.output
  record_property('seconds', time.monotonic() - start)
  assert time.monotonic() - start < 30
  assert 'stopped by SIGTERM' in life.output


def test_two_signals_end_at_once(zygote, tmp_path):
  logdir = tmp_path / 'run'
  life = endless(zygote, logdir, faults=[
      # The second one comes while the first one's save has begun.
      ('dv3.training.run.save', '', 3, 'sigint'),
      ('dv3.training.checkpoints.write_variables', '', 3, 'sigint')])
  assert life.wait() == 1, life.output
  # The run can go on all the same.
  lives.live(zygote, logdir, '--gin_param=STEPS = 20')


HANGING = '''
import os
import pathlib
import time
import gymnasium
import dv3

@dv3.register('env', 'test.hanging')
class Hanging(gymnasium.Env):
  def __init__(self, *, told: str):
    pathlib.Path(told).write_text(str(os.getpid()))
    time.sleep(1000)
'''


def test_a_stop_does_not_wait_for_a_constructor_that_hangs(zygote, tmp_path):
  plugin, told = tmp_path / 'hanging_env.py', tmp_path / 'pid'
  plugin.write_text(HANGING)
  life = lives.Life(
      zygote, tmp_path / 'run', f'--plugin={plugin}',
      '--gin_param=train.env = @env.test.hanging',
      f"--gin_param=env.test.hanging.told = '{told}'")
  deadline = time.monotonic() + lives.SECONDS
  while not told.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  time.sleep(0.2)
  start = time.monotonic()
  life.kill(signal.SIGTERM)
  assert life.wait() == 0, life.output
  assert time.monotonic() - start < 30
  process = pathlib.Path('/proc') / told.read_text()
  while process.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not process.exists()
