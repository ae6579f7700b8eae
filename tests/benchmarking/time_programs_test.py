"""The script that times exported programs, up to where it needs JAX."""

import importlib.util
import pathlib
import sys
import types

import pytest

PATH = (
    pathlib.Path(__file__).parents[2]
    / 'benchmarks/accelerator/time_programs.py')


@pytest.fixture(name='script')
def load(monkeypatch):
  """The script with modules in the place of JAX that know nothing."""
  for name in ('jax', 'jax.numpy', 'dv3.exporting.jax_runtime'):
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
  spec = importlib.util.spec_from_file_location('time_programs', PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('precision', ['float32', 'tf32,bfloat16'])
def test_an_unknown_precision_is_refused_at_once(
    script, monkeypatch, capsys, precision):
  monkeypatch.setattr(script, 'ceilings', lambda: pytest.fail('too late'))
  monkeypatch.setattr(
      sys, 'argv', ['time_programs', 'folder', f'--precision={precision}'])
  with pytest.raises(SystemExit, match='2'):
    script.main()
  assert 'choose highest, tf32 or both' in capsys.readouterr().err
