"""What make does with .venv, with a Python that does next to nothing."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).absolute().parents[1]
# Stands for Python with venv and pip: makes the files by which make judges, and
# writes down what it was asked for.
PYTHON = """#!/bin/sh
here=$(pwd -P)
packages=.venv/lib/python3.11/site-packages
case "$*" in
  "-m venv --clear .venv")
    rm -rf .venv
    mkdir -p .venv/bin $packages/pip.dist-info
    echo "command = python3.11 -m venv --clear $here/.venv" > .venv/pyvenv.cfg
    touch $packages/pip.dist-info/INSTALLER
    cp "$0" .venv/bin/python
    for name in dv3-train ruff pyright; do
      echo 'echo "$0 $*" >> log' > .venv/bin/$name
      chmod +x .venv/bin/$name
    done ;;
  "-m pip install"*)
    test ! -e no_network || exit 1
    case "$*" in *--editable=.) echo "$here" > $packages/_dv3.pth ;; esac ;;
  "-c "*"(3, 11)"*) test ! -e "$0.is_another" ;;
esac || exit
case "$*" in -m*) echo "$*" >> log ;; esac
"""
ALL = [
    '-m venv --clear .venv',
    '-m pip install --require-hashes --requirement=requirements/lock.txt',
    '-m pip install --no-deps --no-build-isolation --editable=.',
    '-m pip check']

pytestmark = pytest.mark.skipif(
    shutil.which('make') is None, reason='make is not installed')


class Checkout:
  """A folder with a Makefile; calling it runs make and returns what it did."""

  def __init__(self, folder):
    self.folder = folder
    self.venv = folder / '.venv'
    self.packages = self.venv / 'lib/python3.11/site-packages'

  def __call__(self, *arguments, code=0):
    log = self.folder / 'log'
    log.unlink(missing_ok=True)
    self.done = subprocess.run(
        ['make', f'PYTHON={self.folder / "python"}', *arguments],
        cwd=self.folder, capture_output=True, text=True, timeout=60)
    assert self.done.returncode == code, self.done.stdout + self.done.stderr
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def checkout(tmp_path):
  folder = tmp_path / 'a checkout'
  (folder / 'requirements').mkdir(parents=True)
  (folder / 'requirements/lock.txt').write_text('one')
  (folder / 'pyproject.toml').write_text('')
  shutil.copy(ROOT / 'Makefile', folder)
  (folder / 'python').write_text(PYTHON)
  (folder / 'python').chmod(0o755)
  made = Checkout(folder)
  assert made('venv') == ALL
  assert made('venv') == []
  return made


def test_a_new_lock_is_installed_over_the_old_one(checkout):
  (checkout.folder / 'requirements/lock.txt').write_text('two')
  assert checkout('venv') == ALL[1:]
  assert checkout('venv') == []


def test_an_install_that_failed_is_done_again_also_with_the_old_lock(checkout):
  (checkout.folder / 'requirements/lock.txt').write_text('two')
  (checkout.folder / 'no_network').touch()
  checkout('venv', code=2)
  (checkout.folder / 'no_network').unlink()
  (checkout.folder / 'requirements/lock.txt').write_text('one')
  assert checkout('venv') == ALL[1:]


def test_the_environment_of_a_copy_is_made_anew(checkout, tmp_path):
  copy = Checkout(tmp_path / 'a copy')
  shutil.copytree(checkout.folder, copy.folder)
  assert copy('venv') == ALL
  assert checkout('venv') == []
  moved = Checkout(copy.folder.rename(tmp_path / 'moved'))
  assert moved('venv') == ALL


def test_a_link_to_the_environment_of_another_leaves_that_alone(
    checkout, tmp_path):
  other = Checkout(tmp_path / 'other')
  shutil.copytree(
      checkout.folder, other.folder, ignore=shutil.ignore_patterns('.venv'))
  other.venv.symlink_to(checkout.venv)
  assert other('venv') == ALL
  assert not other.venv.is_symlink()
  assert checkout('venv') == []


@pytest.mark.parametrize('damage', ['gone', 'another', 'killed'])
def test_what_is_broken_is_made_anew(checkout, damage):
  if damage == 'gone':  # A link to an interpreter that is no more.
    (checkout.venv / 'bin/python').unlink()
    (checkout.venv / 'bin/python').symlink_to('no_such_python')
  elif damage == 'another':
    (checkout.venv / 'bin/python.is_another').touch()
  else:
    (checkout.packages / 'half.dist-info').mkdir()
  assert checkout('venv') == ALL
  assert checkout('venv') == []


def test_an_editable_install_that_was_replaced_comes_back(checkout):
  (checkout.packages / '_dv3.pth').unlink()  # As `pip install .` does.
  assert checkout('venv') == ALL[2:]
  assert checkout('venv') == []


def test_another_python_is_refused_in_one_line(checkout):
  shutil.rmtree(checkout.venv)
  for python in ('no_such_python', str(checkout.folder / 'python')):
    (checkout.folder / 'python.is_another').touch()
    assert checkout('venv', f'PYTHON={python}', code=2) == []
    cause, *rest = checkout.done.stderr.splitlines()
    assert 'dv3 needs Python 3.11' in cause
    assert f'"{python}" is not there, or another: install it, or' in cause
    assert all('Error 2' in line for line in rest)
  assert not checkout.venv.exists()


def test_the_run_directory_may_have_spaces(checkout):
  checkout('train', 'LOGDIR=runs/my run', 'ARGS=--seed=1')
  script = checkout.venv / 'bin/dv3-train'
  script.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done > log')
  assert checkout('train', 'LOGDIR=runs/my run', 'ARGS=--seed=1') == [
      '--gin_file=preset/quickstart.gin', '--logdir=runs/my run', '--seed=1']


def test_clean_leaves_no_environment(checkout):
  (checkout.folder / '.venv-suites').mkdir()
  checkout('clean')
  assert not list(checkout.folder.glob('.venv*'))
