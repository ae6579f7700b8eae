"""Files of full chunks: written once in the background, checked when read.

A chunk file holds the steps of one full chunk but for the latents, which
change later. It is a NumPy archive, never a pickle, written beside its place,
flushed and renamed; its CRC-32 belongs to the checkpoints that refer to it.
"""

import contextlib
import io
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from concurrent import futures

import numpy as np

from dv3 import errors
from dv3.replay import context

_NAME = re.compile(r'(writing-)?chunk-(\d{12})(\.npz|\.damaged)?')


class Damage(Exception):
  """A chunk file is missing or not as it was written."""


def chunk_path(directory, identifier: int) -> pathlib.Path:
  """Returns the path of a chunk's file."""
  return pathlib.Path(directory) / f'chunk-{identifier:012d}.npz'


def static_entries(entries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the entries that never change: all but latents."""
  return {k: v for k, v in entries.items() if not context.is_latent(k)}


def write_chunk(path: pathlib.Path, entries: dict[str, np.ndarray]) -> int:
  """Writes the entries of a chunk; returns the CRC-32 of the file.

  Raises:
    UserError: if the disk is full or cannot be written; nothing is changed.
  """
  stream = io.BytesIO()
  np.savez(stream, **entries)  # pyright: ignore[reportArgumentType]
  content = stream.getbuffer()
  temporary = path.parent / f'writing-{path.stem}'
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
    _flush(path.parent)
  except OSError as error:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise disk_error(path.parent, error) from error
  return zlib.crc32(content)


def _flush(folder: pathlib.Path) -> None:
  """Flushes the entries of a folder to disk."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def disk_error(folder, error: OSError) -> errors.UserError:
  """Returns the error about a folder that cannot be written."""
  return errors.UserError(
      f'cannot write replay to {folder}: {error.strerror or error}; free space '
      'or change its permissions, then start the same command again')


def read_chunk(path: pathlib.Path, checksum: int) -> dict[str, np.ndarray]:
  """Reads what `write_chunk` wrote.

  Raises:
    Damage: if the file is missing or its CRC-32 is another.
  """
  try:
    content = path.read_bytes()
  except OSError as error:
    raise Damage(error.strerror) from error
  if zlib.crc32(content) != checksum:
    raise Damage('it has another checksum')
  with np.load(io.BytesIO(content), allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[np.lib.npyio.NpzFile]:
  """Opens a NumPy archive, without pickle.

  Raises:
    Damage: if it is missing or no archive.
  """
  with contextlib.ExitStack() as stack:
    try:
      file = stack.enter_context(open(path, 'rb'))
      archive = stack.enter_context(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
      raise Damage(f'{path.name}: {error}') from error
    yield archive


def read_archive(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all arrays of an archive.

  Raises:
    Damage: if it is missing or not as it was written.
  """
  with open_archive(path) as archive:
    return {name: read_member(archive, name) for name in archive.files}


def read_member(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
  """Reads one array of an archive, checking its CRC-32.

  Raises:
    Damage: if it is missing or not as it was written.
  """
  try:
    return archive[name]
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise Damage(str(error)) from error


class ArchiveFile:
  """A NumPy archive, written array by array, without pickle.

    with ArchiveFile(path) as file:
      file.add(name, array)

  Args:
    path: of the archive.
  """

  def __init__(self, path: pathlib.Path):
    self._path = path

  def __enter__(self):
    self._file = zipfile.ZipFile(self._path, 'w', allowZip64=True)
    return self

  def __exit__(self, *error):
    self._file.close()

  def add(self, name: str, array: np.ndarray) -> None:
    """Writes one array."""
    with self._file.open(f'{name}.npy', 'w', force_zip64=True) as member:
      np.lib.format.write_array(member, array, allow_pickle=False)


def prune(directory, folders) -> None:
  """Deletes chunk files that none of the checkpoint folders refers to.

  Files of newer chunks stay: the next checkpoint refers to them, as it does to
  chunks that the newest one holds itself and that were full since. So do those
  that were set aside as damaged.
  """
  needed: set[int] = set()
  open_: set[int] = set()  # Of the last folder, which is the newest.
  newest = -1
  for folder in folders:
    try:
      index = read_archive(pathlib.Path(folder) / 'index.npz')
    except Damage:
      continue  # It cannot be loaded: no chunk helps it.
    needed.update(index['identifier'][index['checksum'] >= 0].tolist())
    newest = max([newest, *index['identifier'].tolist()])
    open_ = set(index['identifier'][index['checksum'] < 0].tolist())
  for path in pathlib.Path(directory).glob('*chunk-*'):
    match = _NAME.fullmatch(path.name)
    if match and match[3] != '.damaged' and int(match[2]) <= newest and (
        int(match[2]) not in open_) and (
        match[1] or int(match[2]) not in needed):
      path.unlink(missing_ok=True)


class Writer:
  """Writes full chunks in a background thread, in order.

  Args:
    directory: of the chunk files; created here.

  Raises:
    UserError: if it cannot be created.
  """

  def __init__(self, directory):
    self.directory = pathlib.Path(directory)
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise disk_error(self.directory, error) from error
    self._pool = futures.ThreadPoolExecutor(1, 'replay-writer')
    self._pending: dict[int, futures.Future] = {}

  def submit(self, chunks, slot: int) -> None:
    """Has a full chunk written; its steps but for latents must not change.

    Raises:
      UserError: if an earlier chunk could not be written.
    """
    for other in [k for k, v in self._pending.items() if v.done()]:
      self.wait(chunks, other)
    self._pending[slot] = self._pool.submit(
        write_chunk, chunk_path(self.directory, int(chunks.identifier[slot])),
        static_entries(chunks.entries(slot)))

  def wait(self, chunks, slot: int | None = None) -> None:
    """Waits for one chunk, or for all, and notes the checksums.

    Raises:
      UserError: if a chunk could not be written.
    """
    for number in [slot] if slot is not None else list(self._pending):
      if number in self._pending:
        chunks.checksum[number] = self._pending.pop(number).result()

  def settle(self, chunks) -> None:
    """Waits for all; a chunk that could not be written has no checksum then."""
    for number in list(self._pending):
      with contextlib.suppress(errors.UserError):
        self.wait(chunks, number)
