"""Runs that go on with something changed: what may, and what may not."""

import json
import subprocess
import sys

import lives
import pytest

from dv3 import config
from dv3 import errors


@pytest.fixture(name='logdir', scope='module')
def make_logdir(zygote, tmp_path_factory):
  logdir = tmp_path_factory.mktemp('change') / 'run'
  lives.live(zygote, logdir, '--gin_param=STEPS = 60')
  return logdir


def test_seed_environments_and_gin_text_may_change(zygote, logdir):
  output = lives.live(
      zygote, logdir, '--seed=9', '--gin_param=NUM_ENVS = 3',
      '--gin_param=STEPS = 90', '--gin_param=train.keep_checkpoints = 3',
      # Another text, the same meaning.
      '--gin_param=UNITS = 4', '--gin_param=UNITS = 8')
  for line in (
      'train.seed: 4 becomes 9', 'collector.local.num_envs: 2 becomes 3',
      'train.env_steps: 60 becomes 90',
      'train.keep_checkpoints: 2 becomes 3'):
    assert line in output.splitlines()
  # 5 replayed steps an env step, in batches of 3 x 5.
  assert '5 replayed steps per env step are 0.333 updates' in output
  assert 'units' not in output and 'truncated' not in output
  summary = json.loads(
      (lives.checkpoints(logdir)[-1] / 'summary.json').read_text())
  assert summary['env_steps'] >= 90
  newest = lives.checkpoints(logdir)[-1]
  for name in ('config.gin', 'operative_config.gin'):
    assert (newest / name).read_text() == (logdir / name).read_text()
  steps = [x['step'] for x in lives.scores(logdir)]
  assert steps == sorted(steps)


@pytest.mark.parametrize('param, words', [
    ('train.batch_size = 4', 'train.batch_size was 3, is 4'),
    ('train.batch_length = 6', 'train.batch_length was 5, is 6'),
    ('UNITS = 16', 'mlp.units was 8, is 16'),
    ('train.sampler = @sampler.uniform', 'train.sampler was @sampler.prior'),
    ("env.gymnasium.id = 'Acrobot-v1'", "was 'CartPole-v1', is 'Acrobot-v1'"),
    ('optimizer.laprop.learning_rate = 0.5', 'learning_rate was 0.001, is 0.5'),
])
def test_what_has_no_meaning_is_refused_with_the_difference(param, words):
  files = [x.partition('=')[2] for x in lives.GIN]
  with pytest.raises(errors.UserError) as info:
    config.require_resumable(
        config.parse(files), config.parse(files, [param]))
  assert words in str(info.value) and '--logdir' in str(info.value)


def test_the_number_of_replicas_may_not_change_what_is_scaled_by_it():
  files = [x.partition('=')[2] for x in lives.GIN]
  def settings(replicas, *more):
    return config.parse([*files, *more], [f'train.replicas = {replicas}'])
  config.require_resumable(settings(2), settings(4))
  with pytest.raises(errors.UserError, match='train.replicas was 2, is 4'):
    config.require_resumable(
        settings(2, 'dist/scaled.gin'), settings(4, 'dist/scaled.gin'))


def test_evaluation_with_another_configuration(logdir):
  # lives.GIN has episodes of more than two steps.
  command = [
      sys.executable, '-m', 'dv3.bin.evaluate', f'--logdir={logdir}',
      '--episodes=2', '--json', '--gin_param=env.gymnasium.time_limit = 2']
  for files in ([], lives.GIN):
    done = subprocess.run(
        [*command, *files], text=True, capture_output=True, check=True)
    assert json.loads(done.stdout)['lengths'] == [2, 2]
  done = subprocess.run(
      [*command, '--gin_file=preset/quickstart.gin'], text=True,
      capture_output=True)
  assert done.returncode == 2
  line, = done.stderr.splitlines()
  assert 'has other variables than this configuration builds' in line


def test_refusal_touches_nothing(zygote, logdir):
  before = {x: x.stat().st_mtime_ns for x in logdir.rglob('*')
            if x.is_file()}
  output = lives.live(
      zygote, logdir, '--gin_param=train.batch_size = 4', code=2)
  assert 'train.batch_size was 3, is 4' in output
  assert before == {x: x.stat().st_mtime_ns for x in logdir.rglob('*')
                    if x.is_file()}


@pytest.mark.slow
def test_replicas_may_change(zygote, tmp_path):
  logdir = tmp_path / 'run'
  lives.live(zygote, logdir, '--gin_param=STEPS = 60')
  output = lives.live(
      zygote, logdir, '--gin_param=STEPS = 80',
      "--gin_param=train.distribution = 'mirrored'",
      '--gin_param=train.replicas = 3')
  assert "train.distribution: 'single' becomes 'mirrored'" in output
  lives.live(zygote, logdir, '--gin_param=STEPS = 100')


PLUGIN = '''
import os
import gymnasium
import numpy as np
import dv3

@dv3.register('env', 'test.random')
class Random(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    self.rng = np.random.default_rng()  # Whatever the seed.
    return self.rng.random(2, np.float32), {}

  def step(self, action):
    return self.rng.random(2, np.float32), 1.0, False, False, {}
'''


def test_environment_that_is_not_deterministic_is_truncated_and_said_so(
    zygote, tmp_path):
  plugin = tmp_path / 'random_env.py'
  plugin.write_text(PLUGIN)
  logdir = tmp_path / 'run'
  gin = (
      *lives.TINY, f'--plugin={plugin}', '--gin_param=TASK = @env.test.random')
  lives.live(zygote, logdir, '--gin_param=STEPS = 60', gin=gin)
  assert not lives.scores(logdir)
  for steps, episodes in ((90, 2), (120, 4)):
    output = lives.live(
        zygote, logdir, f'--gin_param=STEPS = {steps}', gin=gin)
    for index in (0, 1):
      assert (f'environment {index} did not repeat its episode (it is not '
              'deterministic); the episode is truncated') in output
    found = [x['step'] for x in lives.scores(logdir)]
    assert len(found) == episodes and found == sorted(found)
