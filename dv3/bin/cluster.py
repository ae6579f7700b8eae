"""dv3-cluster: starts the workers of one run on this machine.

  dv3-cluster --workers=2 --gin_file=preset/quickstart.gin --logdir=runs/two

Every other flag goes to dv3-train, with dist/multiworker.gin added. Each
worker has environments and a replay shard of its own. If one dies, all start
again from the last checkpoint. Ctrl-C and SIGTERM reach every worker: they save
and end, as they do if this program is killed.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import flags

from dv3 import errors
from dv3.bin import app

FLAGS = flags.FLAGS
_WORKERS = flags.DEFINE_integer(
    'workers', 2, 'How many workers to start.', lower_bound=1)
_MAX_RESTARTS = flags.DEFINE_integer(
    'max_restarts', 10,
    'How often a worker that died is started again before all are stopped.',
    lower_bound=0)

_POLL_SECONDS = 0.2
_ENDING_SECONDS = 120.0  # For the others, once a worker has ended well.
_PR_SET_PDEATHSIG = 1  # Of Linux's prctl: a signal when the parent dies.
_LIBC = ctypes.CDLL(None)


def free_ports(count: int) -> list[int]:
  """Returns ports of the loopback device that nobody listens on now."""
  sockets = [socket.socket() for _ in range(count)]
  try:
    for one in sockets:
      one.bind(('127.0.0.1', 0))
    return [one.getsockname()[1] for one in sockets]
  finally:
    for one in sockets:
      one.close()


def command() -> list[str]:
  """Returns the command line of a worker, from this program's flags."""
  files = [*FLAGS.gin_file, 'dist/multiworker.gin'] if FLAGS.gin_file else []
  line = [sys.executable, '-m', 'dv3.bin.train', f'--logdir={FLAGS.logdir}']
  line += [f'--gin_file={x}' for x in files]
  line += [f'--gin_param={x}' for x in FLAGS.gin_param]
  line += [f'--plugin={x}' for x in FLAGS.plugin]
  line += [] if FLAGS.seed is None else [f'--seed={FLAGS.seed}']
  return line + (['--debug'] if FLAGS.debug else [])


class Workers:
  """The processes, and what they print with their number before it.

  Args:
    count: how many.
  """

  def __init__(self, count: int):
    self._command = command()
    self._addresses = [f'127.0.0.1:{port}' for port in free_ports(count)]
    self.processes = [self._start(index) for index in range(count)]

  def _start(self, index):
    config = json.dumps({
        'cluster': {'worker': self._addresses},
        'task': {'type': 'worker', 'index': index}})
    process = subprocess.Popen(
        self._command, env={**os.environ, 'TF_CONFIG': config}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=1,
        # Ctrl-C in a terminal goes to this program, which hands it on.
        start_new_session=True, preexec_fn=_end_with_parent)
    threading.Thread(
        target=_print, args=(index, process.stdout), daemon=True).start()
    return process

  def restart(self, index: int) -> None:
    """Starts a worker again; the others come back by themselves."""
    self.processes[index] = self._start(index)

  def signal(self, number: int) -> None:
    """Hands a signal to every worker that runs."""
    for process in self.processes:
      if process.poll() is None:
        process.send_signal(number)

  def codes(self) -> list[int | None]:
    """Returns the exit codes, None where a worker runs."""
    return [process.poll() for process in self.processes]


def _end_with_parent():
  """Asks for SIGTERM when dv3-cluster is gone, even by kill -9."""
  _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _print(index, lines):
  """Prints a worker's lines as they come."""
  for line in lines:
    print(f'[{index}] {line}', end='', flush=True)


def main(argv):
  """Starts the workers and waits for them."""
  del argv
  if not FLAGS.logdir:
    raise errors.UserError(
        'give the run directory that all workers share, --logdir=runs/cluster')
  workers = Workers(_WORKERS.value)
  asked = []

  def hand_on(number, frame):
    del frame
    asked.append(number)
    workers.signal(number)

  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, hand_on)
  return _watch(workers, asked)


def _watch(workers, asked) -> int:
  """Restarts what dies, until all have ended; returns the exit code."""
  restarts = 0
  deadline = None
  while True:
    codes = workers.codes()
    if asked:  # Who waited for the others had nothing to save.
      stopped = (-signal.SIGTERM, -signal.SIGINT)
      codes = [0 if code in stopped else code for code in codes]
    if all(code == 0 for code in codes):
      return 0
    if 0 in codes:  # They end together; who waits for others would for ever.
      deadline = deadline or time.monotonic() + _ENDING_SECONDS
      if time.monotonic() > deadline:
        workers.signal(signal.SIGKILL)
    failed = [i for i, code in enumerate(codes) if code not in (None, 0)]
    given_up = restarts + len(failed) > _MAX_RESTARTS.value
    over = 0 in codes  # The others end too; who came back would wait for it.
    if failed and (asked or given_up or over or any(
        codes[i] == app.ERROR_CODE for i in failed)):
      workers.signal(signal.SIGKILL)
      code = codes[failed[0]]
      print(
          f'dv3-cluster: worker {failed[0]} ended with code {code}; all were '
          'stopped; ' + (
              'its message says why' if code == app.ERROR_CODE else
              'the same command goes on from the last checkpoint, if there is '
              'one'), file=sys.stderr)
      return code if code == app.ERROR_CODE else 1
    for index in failed:
      restarts += 1
      print(
          f'dv3-cluster: worker {index} ended with code {codes[index]}; '
          f'starting it again ({restarts} of {_MAX_RESTARTS.value})',
          file=sys.stderr, flush=True)
      workers.restart(index)
    time.sleep(_POLL_SECONDS)


def run():
  """The console script."""
  app.run(main)


if __name__ == '__main__':
  run()
