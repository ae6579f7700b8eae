"""Forks processes that run dv3's binaries, TensorFlow being loaded once.

Each line on standard input is an order, each answer a line on standard output:

  {"binary": "train", "arguments": [...], "log": path, "faults": [...]}
    -> {"pid": number}
  {"wait": pid} -> {"status": what os.waitpid returned}

A fault is [name of a function, text, count, action]: at its count-th call whose
arguments contain the text, the process takes the action: 'kill' (before the
call), 'kill after', 'sigint', 'sigterm', or ['raise', errno].
"""

import contextlib
import errno
import importlib
import json
import os
import pkgutil
import signal
import sys

import dv3

READY = 'ready'


def main():
  # TensorFlow starts its threads with the first operation, so that a process
  # that has only imported it can fork.
  for module in pkgutil.walk_packages(dv3.__path__, 'dv3.'):
    if not module.name.startswith(('dv3.testing', 'dv3.bin.')):
      with contextlib.suppress(ImportError):  # Of an extra.
        importlib.import_module(module.name)
  importlib.import_module('dv3.bin.train')
  from tensorflow.python.eager import context
  assert context.context()._context_handle is None, 'TensorFlow has started'
  print(READY, flush=True)
  for line in sys.stdin:
    order = json.loads(line)
    if 'wait' in order:
      _, status = os.waitpid(order['wait'], 0)
      print(json.dumps({'status': status}), flush=True)
      continue
    pid = os.fork()
    if not pid:
      be(order)
    print(json.dumps({'pid': pid}), flush=True)


def be(order):
  """Becomes the ordered process; does not return."""
  code = 99
  try:
    os.setsid()
    log = os.open(order['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for fault in order['faults']:
      plant(*fault)
    sys.argv = [f'dv3-{order["binary"]}', *order['arguments']]
    module = importlib.import_module(f'dv3.bin.{order["binary"]}')
    module.run()
    code = 0
  except SystemExit as error:
    code = error.code if isinstance(error.code, int) else 0
  except BaseException:
    import traceback
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    # What a program's own end does; the zygote's is not wanted.
    import multiprocessing
    for child in multiprocessing.active_children():
      child.terminate()
    os._exit(code or 0)


def plant(name, text, count, action):
  """Wraps a function so that its count-th matching call has a fault."""
  owner, rest = name, []
  while True:  # The longest part of the name that is a module.
    try:
      owner = importlib.import_module(owner)
      break
    except ImportError:
      owner, _, last = owner.rpartition('.')
      rest.insert(0, last)
  for part in rest[:-1]:
    owner = getattr(owner, part)
  function = getattr(owner, rest[-1])
  calls = []

  def wrapped(*arguments, **kwargs):
    if not text or text in ' '.join(map(str, arguments)):
      calls.append(1)
      if len(calls) == count:
        if action == 'kill after':
          function(*arguments, **kwargs)
        if action in ('kill', 'kill after'):
          os.kill(os.getpid(), signal.SIGKILL)
        elif action in ('sigint', 'sigterm'):
          os.kill(os.getpid(), getattr(signal, action.upper()))
        else:
          number = getattr(errno, action[1])
          raise OSError(number, os.strerror(number))
    return function(*arguments, **kwargs)

  setattr(owner, rest[-1], wrapped)


if __name__ == '__main__':
  main()
