"""Remedies that errors name can be run as they stand."""

import shlex
import subprocess
import sys

from dv3 import errors


def test_packages_are_installed_where_the_program_runs(monkeypatch):
  words = shlex.split(errors.pip_install('dv3[dmc]'))
  assert words == [sys.executable, '-m', 'pip', 'install', 'dv3[dmc]']
  shown = subprocess.run(
      [*words[:3], '--version'], capture_output=True, text=True, check=True)
  assert f'python {sys.version_info[0]}.{sys.version_info[1]}' in shown.stdout
  monkeypatch.setattr(sys, 'executable', '/a folder/python')
  assert errors.pip_install('jax') == (
      "'/a folder/python' -m pip install \"jax\"")
