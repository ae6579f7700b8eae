"""Disks that are full or read-only, and clocks that jump.

Real small file systems where this user may mount one, else what the system says
of one (an error in the middle of a save).
"""

import json
import os
import shutil
import subprocess
import sys

import lives
import pytest

from dv3.training import checkpoints


def can_mount() -> bool:
  result = subprocess.run(
      ['unshare', '-rm', 'mount', '-t', 'tmpfs', '-o', 'size=64k', 'none',
       '/mnt'], capture_output=True, check=False)
  return result.returncode == 0


def mounted(logdir, script, *arguments, options='size=4m'):
  """Runs dv3-train with `logdir` on a small file system of its own.

  Args:
    logdir: where it is mounted.
    script: for the shell, before the run; $1 is the logdir.
    *arguments: of dv3-train.
    options: of the mount.

  Returns:
    The finished process; what the file system held is in `logdir`.saved.
  """
  logdir.mkdir(exist_ok=True)
  program = (
      f'mount -t tmpfs -o {options} none "$1"; cp -a "$1.saved/." "$1" '
      f'2>/dev/null; {script}\n'
      'logdir="$1"; shift; "$@"; code=$?\n'
      'mount -o remount,rw,size=64m "$logdir"; rm -rf "$logdir.saved"\n'
      'cp -a "$logdir" "$logdir.saved"; exit $code')
  return subprocess.run(
      ['unshare', '-rm', 'sh', '-c', program, 'sh', str(logdir),
       sys.executable, '-m', 'dv3.bin.train', *lives.GIN, *arguments,
       f'--logdir={logdir}'], capture_output=True, text=True, check=False,
      timeout=lives.SECONDS)


def check_line(result, *words):
  assert result.returncode == 2, result.stderr
  lines = result.stderr.strip().splitlines()
  assert len(lines) == 1, result.stderr
  line = lines[0]
  assert line.startswith('dv3-train: ')
  for word in words:
    assert word in line


@pytest.mark.skipif(not can_mount(), reason='needs a user namespace')
@pytest.mark.parametrize('free', [
    pytest.param(x, marks=[] if x == 100 else pytest.mark.slow)
    for x in (0, 4, 20, 60, 100)])  # Kilobytes; a checkpoint has about 250.
def test_full_disk(zygote, reference, tmp_path, free):
  logdir = tmp_path / 'run'
  lives.live(zygote, logdir, '--gin_param=STEPS = 60')
  shutil.move(logdir, tmp_path / 'run.saved')
  result = mounted(
      logdir, f'space=$(($(df --output=avail -k "$1" | tail -1) - {free}))\n'
      'head -c ${space}k /dev/zero > "$1/ballast"')
  check_line(result, str(logdir), 'No space left', 'free')
  saved = tmp_path / 'run.saved'
  (saved / 'ballast').unlink()
  whole, = lives.checkpoints(saved)
  assert checkpoints.find_damage(whole) is None
  assert not list((saved / 'checkpoints').glob('writing-*'))
  # Space is made: the run goes on, and is the run that had space.
  shutil.copytree(saved, logdir, dirs_exist_ok=True)
  lives.live(zygote, logdir)
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])
  assert lives.scores(logdir) == lives.scores(reference)


@pytest.mark.parametrize('name, text', [
    ('dv3.replay.storage.ArchiveFile.add', 'latent'),
    pytest.param('os.fsync', '', marks=pytest.mark.slow),
    pytest.param('os.replace', 'writing-chunk', marks=pytest.mark.slow),
    pytest.param('os.replace', 'checkpoints/writing', marks=pytest.mark.slow)])
def test_error_in_a_save(zygote, reference, tmp_path, name, text):
  logdir = tmp_path / 'run'
  lives.live(zygote, logdir, '--gin_param=STEPS = 60')
  output = lives.live(
      zygote, logdir, faults=[(name, text, 1, ('raise', 'ENOSPC'))], code=2)
  assert 'No space left on device' in output.splitlines()[-1]
  assert len(lives.checkpoints(logdir)) == 1
  lives.live(zygote, logdir)
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])


@pytest.mark.skipif(not can_mount(), reason='needs a user namespace')
def test_read_only_directory(zygote, tmp_path):
  del zygote
  logdir = tmp_path / 'run'
  result = mounted(logdir, 'mount -o remount,ro "$1"')
  check_line(result, str(logdir), 'Read-only file system', '--logdir')


def test_logdir_that_is_a_file(zygote, tmp_path):
  logdir = tmp_path / 'run'
  logdir.write_text('')
  output = lives.live(zygote, logdir, code=2)
  assert str(logdir) in output and len(output.strip().splitlines()) == 1


@pytest.mark.slow
def test_clock_that_jumps_back(zygote, reference, tmp_path):
  # The wall clock goes backwards by a day at each look at it.
  logdir = tmp_path / 'run'
  plugin = tmp_path / 'clock.py'
  plugin.write_text('''
import itertools, time
_start = time.time()
_days = itertools.count()
time.time = lambda: _start - 86400.0 * next(_days)
''')
  lives.live(
      zygote, logdir, f'--plugin={plugin}', '--gin_param=STEPS = 70',
      '--gin_param=train.log_every_seconds = 0.2',
      '--gin_param=train.save_every_seconds = 0.2')
  lives.live(zygote, logdir, f'--plugin={plugin}', gin=(
      *lives.GIN, '--gin_param=train.save_every_seconds = 0.2'))
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])
  lines = (logdir / 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(x)['step'] for x in lines]
  # More than each life's last one: intervals have passed.
  assert steps == sorted(steps) and len(set(steps)) > 2
  assert os.path.getsize(logdir / 'scores.jsonl')
