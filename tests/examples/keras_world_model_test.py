"""The embedding example learns, and uses neither gin nor the trainer."""

import pathlib
import subprocess
import sys

PROGRAM = '''
import runpy, sys
import numpy as np
losses = runpy.run_path(sys.argv[1])["main"](80)
assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10]), losses
assert "dv3.training.trainer" not in sys.modules
assert "dv3.agent" not in sys.modules
print("learned")
'''


def test_embedding_example_learns():
  path = pathlib.Path(__file__).parents[2] / 'examples/keras_world_model.py'
  result = subprocess.run(
      [sys.executable, '-c', PROGRAM, str(path)], capture_output=True,
      text=True, check=False, timeout=300)
  assert result.stdout.strip().endswith('learned'), result.stderr[-2000:]
