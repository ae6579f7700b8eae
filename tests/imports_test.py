"""What runs on the host side, or only reads flags, loads no TensorFlow."""

import pathlib
import subprocess
import sys

import pytest

import dv3

ROOT = pathlib.Path(__file__).absolute().parents[1]
HOST_SIDE = [
    'dv3', 'dv3.collectors', 'dv3.config', 'dv3.envs', 'dv3.exploration',
    'dv3.interfaces', 'dv3.loggers', 'dv3.registry', 'dv3.replay',
    'dv3.report', 'dv3.samplers', 'dv3.scaling', 'dv3.transforms', 'dv3.types',
]
"""Modules, and packages with all their modules."""

BINARIES = sorted(
    f'dv3.bin.{path.stem}' for path in (ROOT / 'dv3/bin').glob('[a-z]*.py'))

HEAVY = ('tensorflow', 'tf_keras', 'keras', 'tensorflow_probability')

PROGRAM = """
import importlib, pkgutil, sys
for name in sys.argv[2:]:
  package = importlib.import_module(name)
  for found in pkgutil.iter_modules(getattr(package, '__path__', ())):
    if name != 'dv3':
      importlib.import_module(name + '.' + found.name)
print([name for name in sys.argv[1].split(',') if name in sys.modules])
"""


def loaded(*modules):
  """Returns which heavy libraries a fresh process has after some imports."""
  done = subprocess.run(
      [sys.executable, '-c', PROGRAM, ','.join(HEAVY), *modules],
      capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  return done.stdout.strip()


@pytest.mark.parametrize('module', HOST_SIDE)
def test_host_side_loads_no_tensorflow(module):
  assert loaded(module) == '[]'


@pytest.mark.parametrize('module', BINARIES)
def test_binaries_load_no_tensorflow_before_they_run(module):
  assert loaded(module) == '[]'


def test_a_part_of_the_model_does_load_it():
  assert loaded('dv3.nets') == "['tensorflow', 'tf_keras', 'keras']"


def test_what_a_part_needs_comes_with_dv3_and_loads_no_tensorflow():
  done = subprocess.run(
      [sys.executable, '-c',
       "import dv3, sys\n"
       "class Mine(dv3.interfaces.Exploration): pass\n"
       "dv3.types.Spec((), 'float32')\n"
       "print('tensorflow' in sys.modules)"],
      capture_output=True, text=True, cwd=ROOT)
  assert done.stdout.strip() == 'False', done.stderr


@pytest.mark.parametrize('name', dv3.__all__)
def test_public_names(name):
  assert getattr(dv3, name) is not None
  assert name in dir(dv3)


def test_a_wrong_public_name():
  with pytest.raises(AttributeError, match="dv3 has no attribute 'gett'"):
    _ = dv3.gett
