"""Bad input to dv3-train: one clear line, exit code 2, nothing lost."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).absolute().parents[2]
BASE = ['--gin_file=dreamerv3.gin', '--gin_file=size/1m.gin']
CARTPOLE = [*BASE, '--gin_file=task/cartpole.gin']
CUSTOM = '''
"""Environments that cannot be trained on."""
import gymnasium
import numpy as np
from dv3 import registry


class Env(gymnasium.Env):
  def __init__(self, observation_space, action_space):
    self.observation_space = observation_space
    self.action_space = action_space


box = gymnasium.spaces.Box
SPACES = {
    'unbounded': (box(-1, 1, (2,)), box(-np.inf, np.inf, (2,))),
    'words': (
        gymnasium.spaces.Dict({
            'text': gymnasium.spaces.Text(4), 'fine': box(-1, 1, (2,))}),
        gymnasium.spaces.Discrete(2)),
    'small': (
        box(0, 255, (16, 16, 3), np.uint8), gymnasium.spaces.Discrete(2))}


@registry.register('env', 'test.bad')
def make(*, which: str) -> gymnasium.Env:
  return Env(*SPACES[which])
'''


def train(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'dv3.bin.train', *arguments],
      capture_output=True, text=True, check=False, timeout=120)


def check(result, *words):
  assert result.returncode == 2, result.stderr
  lines = result.stderr.strip().splitlines()
  assert len(lines) == 1, result.stderr
  assert lines[0].startswith('dv3-train: ')
  for word in words:
    assert word in lines[0]
  assert 'Traceback' not in result.stderr


@pytest.fixture(name='plugin')
def make_plugin(tmp_path):
  path = tmp_path / 'bad_envs.py'
  path.write_text(CUSTOM)
  return [
      *BASE, f'--plugin={path}', '--gin_param=TASK = @env.test.bad',
      '--gin_param=STEPS = 10', '--gin_param=REPLAYED_STEPS_PER_ENV_STEP = 1',
      f'--logdir={tmp_path / "run"}']


@pytest.mark.parametrize('which, words', [
    ('unbounded', ['action', 'finite bounds', 'RescaleAction']),
    ('words', ['text: Text', 'fine: Box', 'wrapper']),
    ('small', ['16x16', 'multipliers'])])
def test_environments_that_cannot_be_trained_on(plugin, which, words):
  result = train(*plugin, f"--gin_param=env.test.bad.which = '{which}'")
  check(result, *words)


def test_environment_that_does_not_exist(tmp_path):
  result = train(
      *CARTPOLE, "--gin_param=env.gymnasium.id = 'CartPol-v1'",
      f'--logdir={tmp_path}')
  check(result, 'CartPol-v1', 'CartPole-v1')


def test_replay_that_cannot_fit_is_told_after_the_json():
  result = train(
      *CARTPOLE, '--gin_param=train.replay_capacity = 10 ** 9'.replace(
          '10 ** 9', '1000000000'), '--gin_param=STEPS = 900000000',
      '--dry_run')
  check(result, 'GB', 'train.replay_capacity')
  assert '"replay_bytes"' in result.stdout


@pytest.mark.parametrize('numbers, words', [
    (['STEPS = 1000'], ['train.env_steps 1000', '16 x 64', 'STEPS']),
    (['train.replay_capacity = 1000'], ['train.replay_capacity 1000', '1024'])])
def test_too_few_steps_for_one_batch(numbers, words, tmp_path):
  # Otherwise the run would end, and nothing would have been trained.
  params = [f'--gin_param={x}' for x in ('DETER = 16', *numbers)]
  check(train(*CARTPOLE, *params, f'--logdir={tmp_path}'), *words)
  # Nothing binds the next start, which follows the remedy.
  assert not (tmp_path / 'config.gin').exists()


def test_run_of_another_configuration_is_kept(tmp_path):
  # In a process of its own: this one may have read other tests' plugins, which
  # a configuration remembers.
  files = ['dreamerv3.gin', 'size/1m.gin', 'task/cartpole.gin']
  subprocess.run([
      sys.executable, '-c', 'from dv3 import config; '
      f'config.parse({files}).save({str(tmp_path)!r})'], check=True)
  before = (tmp_path / 'config.gin').read_text()
  result = train(
      *CARTPOLE, '--gin_param=core.rssm.deter = 1024', f'--logdir={tmp_path}')
  check(result, 'core.rssm.deter was 512, is 1024', '--logdir')
  assert (tmp_path / 'config.gin').read_text() == before


@pytest.mark.parametrize('arguments, words', [
    ([*BASE], ['TASK', 'task/']),
    ([*CARTPOLE, '--gin_param=core.rssm.detre = 1'], ['detre', 'deter']),
    ([*CARTPOLE, "--gin_param=core.rssm.deter = 'many'"], ['deter', 'int']),
    ([*CARTPOLE, '--gin_file=task/cartpol.gin'], ['cartpol', 'cartpole']),
    ([*CARTPOLE, '--plugin=no_such_plugin'], ['no_such_plugin']),
    ([*CARTPOLE, '--no_such_flag=1'], ['no_such_flag'])])
def test_configurations_that_are_wrong(arguments, words, tmp_path):
  check(train(*arguments, f'--logdir={tmp_path}'), *words)


def test_a_logdir_without_a_run_is_named(tmp_path):
  check(
      train(f'--logdir={tmp_path / "misspelt"}'), 'misspelt holds no run',
      'check --logdir', '--gin_file=preset/quickstart.gin')
  assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_no_run(tmp_path):
  folder = tmp_path / 'run' / 'checkpoints' / 'step-000000000010'
  folder.mkdir(parents=True)
  for name in ('config.gin', 'manifest.json'):
    (folder / name).write_text('')
  for flags in ([], CARTPOLE, [*CARTPOLE, '--dry_run']):
    check(
        train(*flags, f'--logdir={folder}'), 'is one checkpoint of a run',
        f'--logdir={tmp_path / "run"},')
  assert len(list(folder.iterdir())) == 2


def test_a_part_that_a_gin_file_imports_may_resume(tmp_path):
  (tmp_path / 'acme_heads.py').write_text('''
from dv3 import registry
from dv3.heads import binary

@registry.register('head', 'acme.binary')
class Mine(binary.BinaryHead):
  pass
''')
  (tmp_path / 'mine.gin').write_text(
      'import acme_heads\nAgent.continuation = @head.acme.binary\n')
  run = [*CARTPOLE, '--gin_param=DETER = 16', f'--logdir={tmp_path / "run"}']
  def start(*more):
    return subprocess.run(
        [sys.executable, '-m', 'dv3.bin.train', *run, '--dry_run',
         f'--gin_file={tmp_path / "mine.gin"}', *more],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'})
  subprocess.run(
      [sys.executable, '-c', 'from dv3 import config; config.parse('
       "['dreamerv3.gin', 'size/1m.gin', 'task/cartpole.gin', 'mine.gin'], "
       "['DETER = 16']).save('run')"], check=True, cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'})
  again = start()
  assert again.returncode == 0, again.stderr
  changed = start('--gin_param=train.log_every_seconds = 3.0')
  assert changed.returncode == 0, changed.stderr
  assert len(changed.stdout.splitlines()) == 1
  assert 'train.log_every_seconds: 30 becomes 3.0' in changed.stderr
  other = start('--gin_param=core.rssm.classes = 8')
  assert other.returncode == 2 and 'core.rssm.classes was' in other.stderr


def test_a_dry_run_checks_the_exploration():
  check(
      train(*CARTPOLE, '--dry_run', '--gin_file=variant/exploration_noise.gin',
            '--gin_param=exploration.noise.amount = 2.0'),
      'exploration.noise.amount is 2.0; it is in [0, 1]')


@pytest.mark.parametrize('number, words', [
    ('train.env_steps = 5', ['less than one batch']),
    ('train.replay_capacity = 10', ['train.replay_capacity 10', '1024']),
    ('optimizer.laprop.learning_rate = -1', ['learning_rate']),
    ('train.seed = 9223372036854775808', ['train.seed', '9223372036854775807']),
    ('train.replicas = -1', ['train.replicas is -1']),
    ("train.jit_compile = 'yes'", ["train.jit_compile is 'yes'"]),
    ("train.optimizers = (('agent', ('core',), @optimizer.laprop),)",
     ['in no optimizer group'])])
def test_a_dry_run_refuses_what_a_start_would(number, words):
  check(
      train(*CARTPOLE, '--gin_param=DETER = 16', '--dry_run',
            f'--gin_param={number}'), *words)


@pytest.mark.parametrize('code', ['0', '3', "'bye'"])
def test_a_plugin_that_exits_is_told(tmp_path, code):
  path = tmp_path / 'exits.py'
  path.write_text(f'import sys\nsys.exit({code})\n')
  check(
      train(*CARTPOLE, f'--plugin={path}', f'--logdir={tmp_path / "run"}'),
      f'plugin {path} cannot be imported: SystemExit', code.strip("'"))
  assert not (tmp_path / 'run').exists()


def test_a_run_without_its_configuration_is_left_alone(tmp_path):
  folder = tmp_path / 'run' / 'checkpoints' / 'step-000000000010'
  folder.mkdir(parents=True)
  (folder / 'config.gin').write_text('')
  for flags in (CARTPOLE, []):
    check(
        train(*flags, f'--logdir={tmp_path / "run"}'),
        'has checkpoints, but no config.gin', f'cp {folder}/config.gin')
