"""What the tests of faults share: real tiny runs, and how they compare."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
TINY = ['--gin_file=dreamerv3.gin', f'--gin_file={HERE / "tiny.gin"}']
GIN = [*TINY, f'--gin_file={HERE / "poles.gin"}']
SECONDS = float(os.environ.get('DV3_FAULTS_SECONDS', '600'))
"""After which a process that does not end is killed, and the test fails."""


class Zygote:
  """Starts processes quickly; see `zygote.py`."""

  def __init__(self):
    self._process = subprocess.Popen(
        [sys.executable, str(HERE / 'zygote.py')], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env={
            **os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
            'PYTHONPATH': os.pathsep.join(x for x in sys.path if x)})
    self._lock = threading.Lock()
    assert self._process.stdout.readline().strip() == 'ready'

  def order(self, **order):
    with self._lock:
      self._process.stdin.write(json.dumps(order) + '\n')
      self._process.stdin.flush()
      return json.loads(self._process.stdout.readline())

  def close(self):
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()


class Life:
  """One process of a run.

  Args:
    zygote: starts it.
    logdir: the run directory.
    arguments: further flags.
    gin: flags that choose the configuration.
    faults: see `zygote.py`.
  """

  def __init__(
      self, zygote, logdir, *arguments, gin=tuple(GIN), faults=(),
      binary='train'):
    self._zygote = zygote
    self.log = pathlib.Path(logdir).with_suffix('.log')
    self._start = self.log.stat().st_size if self.log.exists() else 0
    self.pid = zygote.order(
        binary=binary, log=str(self.log), faults=list(faults),
        arguments=[*gin, *arguments, f'--logdir={logdir}'])['pid']

  def kill(self, number=signal.SIGKILL):
    os.kill(self.pid, number)

  def wait(self, seconds=SECONDS):
    """Returns the exit code, negative for a signal."""
    timer = threading.Timer(seconds, self.kill)
    timer.start()
    try:
      return os.waitstatus_to_exitcode(
          self._zygote.order(wait=self.pid)['status'])
    finally:
      timer.cancel()

  @property
  def output(self):
    """What it wrote to its standard output and error."""
    return self.log.read_text()[self._start:]


def live(*arguments, code=0, **kwargs):
  """Runs one life to its end; returns its output."""
  life = Life(*arguments, **kwargs)
  found = life.wait()
  assert found == code, (found, life.output)
  assert 'Traceback' not in life.output, life.output
  return life.output


def checkpoints(logdir):
  """Returns the checkpoint folders of a run, oldest first."""
  return sorted((pathlib.Path(logdir) / 'checkpoints').glob('step-*'))


def scores(logdir):
  lines = (pathlib.Path(logdir) / 'scores.jsonl').read_text().splitlines()
  return [json.loads(x) for x in lines]


def contents(folder):
  """Returns {name: array or text} of everything that a checkpoint holds."""
  found = {}
  reader = tf.train.load_checkpoint(str(folder / 'variables'))
  for name in reader.get_variable_to_shape_map():
    if 'VARIABLE' in name:
      found[name] = reader.get_tensor(name)
  assert len(found) > 100
  for path in sorted(folder.rglob('*.npz')):
    with np.load(path, allow_pickle=False) as archive:
      for key in archive.files:
        found[f'{path.relative_to(folder)}/{key}'] = archive[key]
  for name in ('state.json', 'replay/replay.json', 'summary.json'):
    found[name] = np.array((folder / name).read_text())
  return found


def require_equal(folder, expected):
  """Asserts that two checkpoints are equal bit for bit."""
  a, b = contents(folder), contents(expected)
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], name)
