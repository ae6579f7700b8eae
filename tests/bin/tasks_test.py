"""Every shipped task trains a little with every base.

The suites that are not installed must say which extra has them; `make
test-suites` installs them all.
"""

import json
import re
import subprocess
import sys

import pytest

from dv3.config import files

SMALL = {
    'dreamerv3.gin': [
        '--gin_file=size/1m.gin', '--gin_param=DETER = 32',
        '--gin_param=DEPTH = 2', '--gin_param=UNITS = 16'],
    'dreamerv3_v1.gin': ['--gin_file=size/v1_nano.gin'],
    'dreamerv2.gin': [
        f'--gin_param={name} = {value}' for name, value in {
            'DETER': 16, 'HIDDEN': 16, 'UNITS': 16, 'LAYERS': 1,
            'DEPTH': 2}.items()]}
TASKS = [x for x in files.shipped_names() if x.startswith('task/')]


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('base', SMALL)
def test_task_trains_200_env_steps(base, task, tmp_path):
  numbers = {
      'STEPS': 200, 'PREFILL_ENV_STEPS': 0, 'REPLAYED_STEPS_PER_ENV_STEP': 2,
      'NUM_ENVS': 1, 'train.batch_size': 4, 'train.batch_length': 8,
      'train.video_every_seconds': 0, 'train.jit_compile': False}
  sizes = [x for x in SMALL[base] if x.startswith('--gin_file')]
  params = [x for x in SMALL[base] if x not in sizes]
  result = subprocess.run(
      [sys.executable, '-m', 'dv3.bin.train', f'--gin_file={base}', *sizes,
       f'--gin_file={task}', *params,
       *(f'--gin_param={k} = {v}' for k, v in numbers.items()),
       f'--logdir={tmp_path}'], capture_output=True, text=True, check=False,
      timeout=600)
  if result.returncode == 2:
    remedy = re.search(r'-m pip install "dv3\[[\w-]+\]"', result.stderr)
    assert remedy, result.stderr
    pytest.skip(f'{task}: {remedy[0]}, or make test-suites')
  assert result.returncode == 0, result.stderr[-3000:]
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  last = json.loads(lines[-1])
  assert last['count/env_steps'] >= 200
  assert last['count/updates'] >= 5
