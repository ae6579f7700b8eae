"""Files that grow by whole records, and what is said when they cannot."""

import os
import pathlib

from dv3 import errors


class AppendFile:
  """A file to which records are appended whole or not at all.

  A record goes to the operating system in one call, so a killed process loses
  none that `write` returned from. The file and its folder are made if needed.

  Args:
    path: the file.

  Raises:
    UserError: (every method) if the file cannot be written; it then ends with
      the last record.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = pathlib.Path(path)
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._file = open(self._path, 'ab', buffering=0)
    except OSError as error:
      raise write_error(self._path, error) from error

  def write(self, data: bytes) -> None:
    """Appends one record."""
    rest = memoryview(data)
    size = os.fstat(self._file.fileno()).st_size
    try:
      while rest:  # A disk that fills up takes a part of the record first.
        rest = rest[self._file.write(rest):]
    except OSError as error:
      self._file.truncate(size)
      raise write_error(self._path, error) from error

  def flush(self) -> None:
    """Makes all records survive a power cut too."""
    try:
      os.fsync(self._file.fileno())
    except OSError as error:
      raise write_error(self._path, error) from error

  def close(self) -> None:
    """Flushes and closes; closing twice is allowed."""
    if not self._file.closed:
      self.flush()
      self._file.close()


def write_whole(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file beside its place and renames it; makes its folder.

  Raises:
    UserError: if it cannot be written; what was there before is still there.
  """
  path = pathlib.Path(path)
  beside = path.with_name(path.name + '.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(beside, 'wb', buffering=0) as file:
      rest = memoryview(data)
      while rest:
        rest = rest[file.write(rest):]
      os.fsync(file.fileno())
    os.replace(beside, path)
  except OSError as error:
    if beside.is_file():
      beside.unlink()
    raise write_error(path, error) from error


def write_error(path: str | os.PathLike, error: OSError) -> errors.UserError:
  """Returns the one-line error for a file that cannot be written."""
  return errors.UserError(
      f'cannot write {os.fspath(path)}: {error.strerror or error}; free some '
      'space there or mend its permissions, then start the same command again')
