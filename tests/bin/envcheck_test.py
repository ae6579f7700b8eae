"""dv3-envcheck tells what the agent would see."""

import json
import subprocess
import sys

import pytest


def run(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'dv3.bin.envcheck', '--gin_file=dreamerv3.gin',
       '--gin_file=size/1m.gin', *arguments],
      capture_output=True, text=True, check=False, timeout=180)


def test_memory_task_as_json():
  result = run('--gin_file=task/memory.gin', '--steps=20', '--json')
  assert result.returncode == 0, result.stderr
  found = json.loads(result.stdout.splitlines()[-1])
  assert found['observations'] == {'observation': {
      'shape': [3], 'dtype': 'float32', 'classes': None, 'low': 0.0,
      'high': 1.0, 'encoder': 'vector'}}
  assert found['actions'] == {
      'action': {'shape': [], 'dtype': 'int32', 'classes': [2], 'low': None,
      'high': None}}
  assert found['repeats_with_equal_seeds'] is True
  assert set(found['lengths']) == {4} and found['episodes'] == 5
  assert set(found['returns']) <= {0.0, 1.0}


def test_text_names_bounds_and_encoders():
  result = run('--gin_file=task/gridworld.gin', '--steps=5')
  assert result.returncode == 0, result.stderr
  assert 'uint8 [32, 32, 3], from 0 to 255 -> image encoder' in result.stdout
  assert 'action: int32 [], classes [4]' in result.stdout


def test_missing_environment_is_one_line():
  result = run(
      '--gin_file=task/cartpole.gin', "--gin_param=env.gymnasium.id = 'X-v0'")
  assert result.returncode == 2
  assert len(result.stderr.strip().splitlines()) == 1
  assert 'X-v0' in result.stderr


BROKEN = """
import gymnasium
import numpy as np
import dv3

@dv3.register('env', 'test.broken')
class Broken(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, *, at: str):
    self.at = at
    self.physics('build')

  def physics(self, now):
    if self.at == now:
      raise KeyError('speed')

  def reset(self, *, seed=None, options=None):
    self.physics('reset')
    first = np.zeros(1, np.float32)
    return first if self.at == 'no info' else (first, {})

  def step(self, action):
    self.physics('step')
    return np.zeros(1, np.float32), 0.0, False, False, {}
"""


@pytest.mark.parametrize('at, message', [
    ('build', "KeyError('speed') at {}:{} in physics"),
    ('reset', "KeyError('speed') at {}:{} in physics"),
    ('step', "KeyError('speed') at {}:{} in physics"),
    ('no info', 'reset returned one ndarray, not (observation, info)')])
def test_an_error_of_the_environment_is_shown_with_its_place(
    tmp_path, at, message):
  plugin = tmp_path / 'broken.py'
  plugin.write_text(BROKEN)
  arguments = (
      f'--plugin={plugin}', '--gin_file=task/cartpole.gin',
      '--gin_param=train.env = @env.test.broken',
      f"--gin_param=env.test.broken.at = '{at}'", '--steps=5')
  result = run(*arguments)
  assert result.returncode == 2, result.stdout
  line, = result.stderr.strip().splitlines()
  number = BROKEN.partition('raise')[0].count('\n') + 1
  assert message.format(plugin, number) in line
  assert 'dv3-envcheck' not in line.partition(':')[2]
