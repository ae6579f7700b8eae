"""The law of replicas: N with batch B / N are one with batch B."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent


def compare(*arguments):
  """Runs the program; returns what it found."""
  environment = {
      **os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
      'PYTHONPATH': os.pathsep.join([str(FOLDER.parents[1]), str(FOLDER)])}
  result = subprocess.run(
      [sys.executable, str(FOLDER / 'replicas_program.py'), *arguments],
      env=environment, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr[-3000:]
  return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize('count, mode', [
    ('2', 'graph'), ('2', 'xla'), *(
        pytest.param(*few, marks=pytest.mark.slow)
        for few in (('4', 'graph'), ('2', 'mixed')))])
def test_replicas_compute_what_one_computes(count, mode):
  found = compare(count, 'float32', mode)
  assert found['names_equal']
  assert found['compared'] > 150  # Parameters, statistics, two moments.
  assert found['replicas_equal']
  # LaProp's first steps are signs of gradients; rounding moves few of them.
  assert found['losses'] < 1e-3, found
  assert found['variables'] < 1e-3, found
  # LaProp's momentum is of gradients by their own size: small ones are noise.
  assert found['moments'] < 1e-2, found
  # A batch that is not finite on one replica changes nothing on any.
  one, several = found['bad']
  finite, name, unchanged = several
  assert finite == 0.0 and unchanged and one == several, found
  assert name.startswith('encoder/') and name.endswith('/kernel')


@pytest.mark.slow
def test_copies_stay_equal_in_bfloat16():
  found = compare('2', 'bfloat16')
  assert found['names_equal']
  assert found['replicas_equal']
  # Eight bits of mantissa: sums of another order differ from the start.
  assert found['first_losses'] < 0.05, found
