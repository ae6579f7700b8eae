"""What dv3-cluster owes its workers when it is gone itself."""

import signal
import subprocess
import sys
import time

_WORKER = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def end(number, frame):
  (folder / 'saved').touch()
  sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / 'ready').touch()
time.sleep(60)
"""
_CLUSTER = """
import sys, time
from dv3.bin import cluster
cluster.command = lambda: [sys.executable, '-c', sys.argv[1], sys.argv[2]]
workers = cluster.Workers(1)
time.sleep(60)
"""


def _appears(path, seconds=30.0):
  deadline = time.monotonic() + seconds
  while not path.exists():
    if time.monotonic() > deadline:
      return False
    time.sleep(0.05)
  return True


def test_workers_save_and_end_when_the_cluster_is_killed(tmp_path):
  cluster = subprocess.Popen(
      [sys.executable, '-c', _CLUSTER, _WORKER, str(tmp_path)])
  try:
    assert _appears(tmp_path / 'ready')
    cluster.send_signal(signal.SIGKILL)
    cluster.wait(10)
    assert _appears(tmp_path / 'saved')
  finally:
    cluster.kill()
