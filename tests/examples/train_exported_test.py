"""The example that trains through exported programs learns.

It needs a Python with JAX, gymnasium, gin-config, absl-py, cloudpickle and
pillow: its path is the variable DV3_JAX_PYTHON.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).absolute().parents[2]
JAX = os.environ.get('DV3_JAX_PYTHON')


@pytest.mark.slow
@pytest.mark.skipif(not JAX, reason='DV3_JAX_PYTHON is not set')
def test_exported_programs_learn_without_tensorflow(tmp_path):
  assert JAX
  subprocess.run(
      [sys.executable, '-m', 'dv3.bin.export', f'--output={tmp_path}',
       '--gin_file=preset/quickstart.gin', '--update', '--policy',
       '--observations=4', '--actions=2'], check=True)
  scores = tmp_path / 'scores.jsonl'
  done = subprocess.run(
      [JAX, 'examples/train_exported.py', str(tmp_path), '--env_steps=1600',
       f'--scores={scores}'], cwd=ROOT, check=True, text=True,
      capture_output=True, env={
          **os.environ, 'JAX_ENABLE_X64': '1', 'JAX_PLATFORMS': 'cpu',
          'PYTHONPATH': str(ROOT)})
  result = json.loads(done.stdout.splitlines()[-1])
  assert result['updates'] > 200
  lines = [json.loads(line) for line in scores.read_text().splitlines()]
  # Random actions balance the pole for 22 steps.
  assert lines[0]['episode/score'] < 60
  assert result['mean_return'] > 100
