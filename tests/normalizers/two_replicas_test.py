"""Two replicas with half a batch each are one with the whole."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent


@pytest.fixture(scope='module')
def report():
  result = subprocess.run(
      [sys.executable, str(FOLDER / 'two_replicas_program.py')],
      env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
           'PYTHONPATH': str(FOLDER.parents[1])},
      capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr[-3000:]
  return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize('aggregated', [True, False])
def test_two_replicas_are_one(report, aggregated):
  assert report['compared'] > 100
  assert report[f'equal_{aggregated}']
  errors = report[f'error_{aggregated}']
  assert max(errors.values()) < 1e-4, {
      k: v for k, v in errors.items() if v >= 1e-4}


def test_an_optimizer_made_outside_of_the_scope_is_refused(report):
  assert report['outside'].startswith('UserError')
  assert 'under the scope' in report['outside']
