"""Replay as it was at one instant, written while it goes on."""

import contextlib
import pathlib
import threading
from collections.abc import Iterable

import numpy as np

from dv3.replay import storage


class Snapshot:
  """What a checkpoint holds of replay, besides the files of full chunks.

    snapshot = saving.take(replay)     # in the thread that changes replay
    snapshot.write(folder)             # in any thread

  The steps of chunks, latents above all, may be gigabytes. They are not copied
  at once: the writer copies one chunk at a time, and whoever changes a chunk
  before the writer came to it copies it first (`protect`). When these copies
  take more memory than they may, they wait for the writer.

  Args:
    text: the content of replay.json.
    archives: {name of a file: {name: array}}, which nobody changes.
    chunks: {slot: {name of a file: {name: view of steps}}}.
    most_bytes: memory of the copies, but for the last one.
  """

  def __init__(
      self, text: str, archives: dict[str, dict[str, np.ndarray]],
      chunks: dict[int, dict[str, dict[str, np.ndarray]]], *,
      most_bytes: int = 1 << 28):
    self._text = text
    self._archives = archives
    self._chunks = chunks
    self._copied: dict[int, int] = {}  # {slot: bytes}
    self._most_bytes = most_bytes
    self._changed = threading.Condition()

  @property
  def done(self) -> bool:
    """Whether every chunk was taken; it needs no protection then."""
    return not self._chunks

  def protect(self, slots: Iterable[int]) -> None:
    """Copies those of some chunks that are still to be written.

    Args:
      slots: of chunks whose written steps are about to change.
    """
    with self._changed:
      for slot in slots:
        self._changed.wait_for(lambda slot=slot: (
            slot not in self._chunks or slot in self._copied
            or sum(self._copied.values()) < self._most_bytes))
        if slot in self._chunks and slot not in self._copied:
          self._chunks[slot] = _copy(self._chunks[slot])
          self._copied[slot] = sum(
              value.nbytes for arrays in self._chunks[slot].values()
              for value in arrays.values())

  def write(self, folder) -> None:
    """Writes the files; once.

    Whoever makes checkpoints flushes the folder to disk and renames it.

    Args:
      folder: of the checkpoint; created if missing.

    Raises:
      UserError: if the disk is full or cannot be written.
    """
    folder = pathlib.Path(folder)
    paths = [folder / f'{name}.npz' for name in (
        *self._archives, 'chunks', 'latents')]
    try:
      folder.mkdir(parents=True, exist_ok=True)
      for name, arrays in self._archives.items():
        np.savez(folder / f'{name}.npz', **arrays)  # pyright: ignore[reportArgumentType]
      with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(storage.ArchiveFile(
                folder / f'{name}.npz')) for name in ('chunks', 'latents')}
        for slot in list(self._chunks):
          for name, arrays in self._take(slot).items():
            for key, value in arrays.items():
              files[name].add(key, value)
      (folder / 'replay.json').write_text(self._text)
    except OSError as error:
      for path in (*paths, folder / 'replay.json'):
        with contextlib.suppress(OSError):
          path.unlink()
      raise storage.disk_error(folder, error) from error
    finally:
      with self._changed:
        self._chunks.clear()
        self._changed.notify_all()

  def _take(self, slot: int) -> dict[str, dict[str, np.ndarray]]:
    """Returns a chunk's arrays, which nobody else has."""
    with self._changed:
      found = self._chunks[slot]
      if slot not in self._copied:
        found = _copy(found)
      del self._chunks[slot]
      self._copied.pop(slot, None)
      self._changed.notify_all()
      return found


def _copy(archives):
  return {
      name: {key: value.copy() for key, value in arrays.items()}
      for name, arrays in archives.items()}
