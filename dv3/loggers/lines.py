"""A file of JSON lines that survives kills and full disks."""

import json
import math
import os
import pathlib
from typing import Any

from dv3.loggers import files


class LineFile:
  """Appends records with a 'step' to a file, one strict JSON object a line.

    lines = LineFile('scores.jsonl')
    lines.append({'step': 200, 'episode/score': 9.5})

  Opening removes what a power cut left at the end: a line without an end, or
  lines that are no records. A killed process or a full disk leaves no such
  thing, see `files.AppendFile`.

  Args:
    path: the file; it and its folder are made if needed.

  Raises:
    UserError: (every method) if the file cannot be written.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = pathlib.Path(path)
    data = self._path.read_bytes() if self._path.is_file() else b''
    self._replace(data[:_whole(data)], data)

  def _replace(self, data, old):
    """Opens the file, with other content if that differs from the old."""
    if data != old:
      files.write_whole(self._path, data)
    self._file = files.AppendFile(self._path)

  def append(self, record: dict[str, Any]) -> None:
    """Writes one record; NaN and infinities become null."""
    record = {
        key: value if math.isfinite(value) else None
        for key, value in record.items()}
    self._file.write(json.dumps(record, allow_nan=False).encode() + b'\n')

  def truncate(self, step: int) -> None:
    """Removes the records after `step`."""
    data = self._path.read_bytes()
    kept = [
        line for line in data.splitlines(keepends=True) if _step(line) <= step]
    self._file.close()
    self._replace(b''.join(kept), data)

  def flush(self) -> None:
    """Makes all lines survive a power cut too."""
    self._file.flush()

  def close(self) -> None:
    """Flushes and closes; closing twice is allowed."""
    self._file.close()


def _step(line: bytes) -> float:
  """Returns a line's step; infinity if it is no record."""
  try:
    return json.loads(line)['step']
  except (ValueError, TypeError, KeyError):
    return math.inf


def _whole(data: bytes) -> int:
  """Returns the length of `data` up to the end of its last record."""
  end = data.rfind(b'\n') + 1
  while end:
    start = data.rfind(b'\n', 0, end - 1) + 1
    if _step(data[start:end]) < math.inf:
      break
    end = start
  return end
