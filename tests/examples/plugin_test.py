"""The example of a third party's package works as its README says."""

import json
import os
import pathlib
import subprocess
import sys
import tomllib
from importlib import metadata

FOLDER = pathlib.Path(__file__).absolute().parents[2] / 'examples/plugin'


def _run(*arguments):
  paths = [str(FOLDER.parents[1]), os.environ.get('PYTHONPATH', '')]
  return subprocess.run(
      [sys.executable, '-m', *arguments], cwd=FOLDER, capture_output=True,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))},
      text=True, check=False, timeout=300)


def test_its_encoder_keeps_the_contract():
  plugin = [] if _plugin_is_installed() else ['-p', 'dv3.testing.plugin']
  result = _run(
      'pytest', '-q', '-p', 'no:cacheprovider', *plugin,
      '--dv3-component=encoder:acme.sines', '--dv3-plugin=acme_sines.py')
  assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
  assert ' passed' in result.stdout


def test_an_agent_is_built_with_it(tmp_path):
  result = _run(
      'dv3.bin.train', '--dry_run', f'--logdir={tmp_path / "run"}',
      '--plugin=acme_sines.py', '--gin_file=preset/quickstart.gin',
      '--gin_file=acme_sines.gin')
  assert result.returncode == 0, result.stderr[-3000:]
  counts = json.loads(result.stdout.strip().splitlines()[-1])['parameters']
  # CartPole's 4 numbers, each with 3 sines and 3 cosines; a hidden layer has
  # weights, biases and the scales of its norm.
  assert counts['encoder'] == (28 * 64 + 2 * 64) + (64 * 64 + 2 * 64)


def test_its_entry_point_names_what_the_module_registers():
  project = tomllib.loads((FOLDER / 'pyproject.toml').read_text())['project']
  (key, value), = project['entry-points']['dv3.components'].items()
  kind, _, name = key.partition('.')
  module, _, attribute = value.partition(':')
  source = (FOLDER / f'{module}.py').read_text()
  assert f"register('{kind}', '{name}')\nclass {attribute}(" in source


def _plugin_is_installed():
  """Returns whether pytest finds dv3's plugin by its entry point."""
  return any(
      x.value == 'dv3.testing.plugin'
      for x in metadata.entry_points(group='pytest11'))
