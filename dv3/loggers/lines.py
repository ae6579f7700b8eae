"""A file of JSON lines that survives kills and full disks."""

import json
import os
import pathlib
from typing import Any

from dv3.loggers import values


class LineFile:
  """Appends records with a 'step' to a file, one strict JSON object a line.

    lines = LineFile('scores.jsonl')
    lines.append({'step': 200, 'episode/score': 9.5})

  A line goes to the operating system in one call, so a killed process loses no
  line that `append` returned from. Opening removes what a power cut or a full
  disk left at the end: a line without an end, or lines that are no JSON.

  Args:
    path: the file; it and its folder are made if needed.

  Raises:
    UserError: (every method) if the file cannot be written; the file then ends
      with its last whole line.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = pathlib.Path(path)
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._open()
      data = self._path.read_bytes()
      whole = _whole(data)
      if whole < len(data):
        self._file.truncate(whole)
    except OSError as error:
      raise values.write_error(self._path, error) from error

  def _open(self):
    self._file = open(self._path, 'ab', buffering=0)

  def append(self, record: dict[str, Any]) -> None:
    """Writes one record; NaN and infinities become null."""
    record = {
        key: values.finite_or_none(value) for key, value in record.items()}
    line = memoryview(json.dumps(record, allow_nan=False).encode() + b'\n')
    size = os.fstat(self._file.fileno()).st_size
    try:
      while line:  # A disk that fills up takes a part of the line first.
        line = line[self._file.write(line):]
    except OSError as error:
      self._file.truncate(size)
      raise values.write_error(self._path, error) from error

  def truncate(self, step: int) -> None:
    """Removes the records after `step`; kept whole if killed meanwhile."""
    lines = self._path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _step(line) <= step]
    if len(kept) == len(lines):
      return
    beside = self._path.with_name(self._path.name + '.tmp')
    try:
      with open(beside, 'wb') as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
      self._file.close()
      os.replace(beside, self._path)
      self._open()
    except OSError as error:
      raise values.write_error(self._path, error) from error

  def flush(self) -> None:
    """Makes all lines survive a power cut too."""
    try:
      os.fsync(self._file.fileno())
    except OSError as error:
      raise values.write_error(self._path, error) from error

  def close(self) -> None:
    """Flushes and closes; closing twice is allowed."""
    if not self._file.closed:
      self.flush()
      self._file.close()


def _step(line: bytes) -> float:
  """Returns a line's step; infinity if it is no record."""
  try:
    return json.loads(line)['step']
  except (ValueError, TypeError, KeyError):
    return float('inf')


def _whole(data: bytes) -> int:
  """Returns the length of `data` up to the end of its last record."""
  end = data.rfind(b'\n') + 1
  while end:
    start = data.rfind(b'\n', 0, end - 1) + 1
    if _step(data[start:end]) < float('inf'):
      break
    end = start
  return end
