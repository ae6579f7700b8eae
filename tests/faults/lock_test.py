"""One process at a time on a run directory."""

import datetime
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import lives
import pytest

from dv3 import errors
from dv3.training import lock

HOLDER = '''
import sys, time
from dv3.training import lock
with lock.hold(sys.argv[1]):
  print('held', flush=True)
  time.sleep(1000)
'''


@pytest.fixture(name='holder')
def make_holder(tmp_path):
  """A process that holds the lock of tmp_path."""
  process = subprocess.Popen(
      [sys.executable, '-c', HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
  assert process.stdout.readline() == b'held\n'
  yield process
  process.kill()
  process.communicate()


def test_second_process_is_told_who_and_a_dead_one_is_succeeded(
    holder, tmp_path):
  with pytest.raises(errors.UserError) as info:
    with lock.hold(tmp_path):
      pass
  message = str(info.value)
  assert f'process {holder.pid} on {socket.gethostname()} since' in message
  since = datetime.datetime.fromisoformat(
      json.loads((tmp_path / 'lock').read_text())['since'])
  age = datetime.datetime.now(datetime.UTC) - since
  assert abs(age.total_seconds()) < lives.SECONDS
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  assert (tmp_path / 'lock').exists()
  with lock.hold(tmp_path):
    assert json.loads((tmp_path / 'lock').read_text())['pid'] == os.getpid()
  assert not (tmp_path / 'lock').exists()


def test_a_directory_without_a_run_goes_again(tmp_path):
  kept = tmp_path / 'kept'
  kept.mkdir()
  for folder in (kept, tmp_path / 'refused'):
    with lock.hold(folder):
      assert folder.is_dir()
  assert kept.is_dir() and not (tmp_path / 'refused').exists()
  with lock.hold(tmp_path / 'run'):
    (tmp_path / 'run' / 'scores.jsonl').write_text('')
  assert (tmp_path / 'run' / 'scores.jsonl').exists()


def test_a_process_may_hold_it_twice(tmp_path):
  with lock.hold(tmp_path):
    with lock.hold(f'{tmp_path}/'):
      pass
    assert (tmp_path / 'lock').exists()
  assert not (tmp_path / 'lock').exists()


@pytest.mark.parametrize('content', [
    '', '[]', '{"pid": "x"}', '{"pid": 0, "host": 3}', '\udcff{'])
def test_a_file_without_sense_is_taken_over(tmp_path, content):
  (tmp_path / 'lock').write_bytes(content.encode(errors='surrogateescape'))
  with lock.hold(tmp_path):
    assert json.loads((tmp_path / 'lock').read_text())['pid'] == os.getpid()


@pytest.mark.parametrize('below', ['', 'run'])
def test_a_file_in_its_place_is_said_to_be_one(tmp_path, below):
  (tmp_path / 'file').write_text('mine')
  with pytest.raises(errors.UserError, match='as a file is in its place'):
    with lock.hold(tmp_path / 'file' / below):
      pass
  assert (tmp_path / 'file').read_text() == 'mine'


def test_file_system_without_locks(tmp_path, monkeypatch, caplog):
  def fail(*_):
    raise OSError(errno.EOPNOTSUPP, 'Operation not supported')
  monkeypatch.setattr(fcntl, 'flock', fail)
  holder = {'host': socket.gethostname(), 'since': 'noon'}
  write = lambda **kwargs: (tmp_path / 'lock').write_text(
      json.dumps({**holder, **kwargs}))
  write(pid=os.getppid())
  with pytest.raises(errors.UserError, match=f'process {os.getppid()} on'):
    with lock.hold(tmp_path):
      pass
  child = subprocess.Popen(['true'])
  child.wait()
  write(pid=child.pid)
  with lock.hold(tmp_path):
    pass
  assert 'without locks' in caplog.text


def test_two_runs_on_one_directory(zygote, tmp_path):
  logdir = tmp_path / 'run'
  first = lives.Life(zygote, logdir, '--gin_param=STEPS = 1000000')
  deadline = time.monotonic() + lives.SECONDS
  while not (logdir / 'config.gin').exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  before = (logdir / 'config.gin').read_text()
  second = lives.Life(
      zygote, logdir, '--gin_param=STEPS = 2000000')
  assert second.wait() == 2
  assert f'is in use by process {first.pid} on' in second.output
  assert (logdir / 'config.gin').read_text() == before
  first.kill()
  assert first.wait() == -9
