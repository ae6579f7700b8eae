"""One process at a time writes a run directory."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator

from absl import logging

from dv3 import errors

NAME = 'lock'
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

_held: dict[pathlib.Path, int] = {}
"""How many times this process holds each lock."""


@contextlib.contextmanager
def hold(logdir) -> Iterator[None]:
  """Keeps other processes out of a run directory, which is made if needed.

    with lock.hold(logdir):
      ...                                   # again inside is allowed

  The system's file lock decides; the file says who holds it, for people. A
  process that dies loses its lock, so a stale file is simply taken over. Where
  the file system has no locks, a living process of this machine keeps its own,
  and one of another machine cannot be seen. A directory that this made goes
  again if nothing was written there, as where a start is refused.

  Args:
    logdir: the run directory.

  Raises:
    UserError: if another process holds it, naming process, host and since when,
      or if the directory cannot be written.
  """
  folder = pathlib.Path(logdir).resolve()
  if folder not in _held:
    made = not folder.exists()
    try:
      folder.mkdir(parents=True, exist_ok=True)
      file = _acquire(folder / NAME)
    except (FileExistsError, NotADirectoryError) as error:
      raise errors.UserError(
          f'{folder} cannot be a run directory, as a file is in its place or '
          'above it; choose another --logdir') from error
    except OSError as error:
      raise errors.UserError(
          f'cannot write {folder}: {error.strerror or error}; free space, mend '
          'its permissions, or choose another --logdir') from error
    with file:
      _held[folder] = 1
      try:
        yield
      finally:
        del _held[folder]
        with contextlib.suppress(OSError):  # A disk that became read-only.
          (folder / NAME).unlink()
        if made:
          with contextlib.suppress(OSError):  # It is not empty.
            folder.rmdir()
    return
  _held[folder] += 1
  try:
    yield
  finally:
    _held[folder] -= 1


def _acquire(path):
  """Returns the open file of a lock that is now held."""
  while True:
    file = open(path, 'a+', encoding='utf-8')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      with file:
        raise _refusal(path.parent, _read(file)) from error
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        file.close()
        raise
      logging.warning(
          '%s is on a file system without locks: start no second process on '
          'another machine', path.parent)
      holder = _read(file)
      if holder.get('host') == socket.gethostname() and _lives(
          holder.get('pid')):
        with file:
          raise _refusal(path.parent, holder) from error
    try:
      if os.path.samestat(os.fstat(file.fileno()), path.stat()):
        break  # Else its last holder has removed it just now.
    except FileNotFoundError:
      pass
    file.close()
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  text = json.dumps({
      'pid': os.getpid(), 'host': socket.gethostname(), 'since': now})
  with contextlib.suppress(OSError):  # On a full disk the lock holds, too.
    file.truncate(0)
    os.write(file.fileno(), text.encode())
  return file


def _read(file):
  """Returns who holds a lock; nothing if the file does not say."""
  file.seek(0)
  try:
    holder = json.loads(file.read())
  except ValueError:
    return {}
  return holder if isinstance(holder, dict) else {}


def _lives(pid) -> bool:
  """Whether a process of this machine is there."""
  if not isinstance(pid, int) or pid <= 0 or pid == os.getpid():
    return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


def _refusal(folder, holder):
  return errors.UserError(
      f'{folder} is in use by process {holder.get("pid", "?")} on '
      f'{holder.get("host", "?")} since {holder.get("since", "?")}; wait for '
      'it, stop it (it saves first), or choose another --logdir')
