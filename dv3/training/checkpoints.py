"""Checkpoints: folders that are whole or not there at all.

A checkpoint is written beside its final place, every file is summed into a
manifest, everything is flushed to disk, and then the folder is renamed. A kill
at any instant leaves the previous checkpoint as it was.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from dv3 import errors
from dv3.training import cluster

_MANIFEST = 'manifest.json'
# A second one at the same step has a number, so that it is written before the
# first one is removed.
_NAME = re.compile(r'step-(\d{12})(-\d+)?')


class Checkpoints:
  """The checkpoints of one run directory, newest last.

    checkpoints = Checkpoints(logdir / 'checkpoints')
    checkpoints.save(step, write)         # write(folder) makes the files
    checkpoints.settle()                  # they are there now
    folder = checkpoints.latest()         # newest whole one, or None

  What `write` leaves for later, checksums and flushing go on in a thread, so
  that training stands still only for what changes as it goes on. Several
  workers write one checkpoint, each its own files in it; the chief makes the
  folder, seals it with checksums and chooses the one to resume from. They share
  a file system, and wait for each other and for the disk.

  Args:
    directory: created if missing.
    keep: how many to keep.
    workers: the `cluster.Cluster`; by default this process alone.

  Attributes:
    seconds: how long the last one took from first to last, None before.
  """

  def __init__(
      self, directory, *, keep: int = 2,
      workers: cluster.Cluster | None = None):
    self.directory = pathlib.Path(directory)
    self.keep = keep
    self.seconds: float | None = None
    self._workers = workers or cluster.Cluster(None)
    self._pool = futures.ThreadPoolExecutor(1, 'checkpoints')
    self._future: futures.Future | None = None
    self._warned = False

  @property
  def writing(self) -> bool:
    """Whether a checkpoint is being written.

    Raises:
      UserError: if the one that was being written could not be.
    """
    if self._future is not None and self._future.done():
      self.settle()
    return self._future is not None

  def lead(self, interval: float) -> float:
    """Returns by how many seconds to begin early, so as to be whole in time.

    Warns once where that is too much of the interval.
    """
    seconds = self.seconds or 0.0
    if seconds > max(1.0, interval / 2) and not self._warned:
      self._warned = True
      logging.warning(
          'writing a checkpoint takes %.3g s, of the %.3g s of '
          'train.save_every_seconds; a kill may cost that much more: raise '
          'train.save_every_seconds, or lower train.replay_capacity', seconds,
          interval)
    return min(seconds, interval / 2)

  def settle(self) -> None:
    """Waits for the checkpoint that is being written.

    Raises:
      UserError: if it could not be; older checkpoints stay as they are.
    """
    future, self._future = self._future, None
    if future is not None:
      future.result()

  def close(self) -> None:
    """Waits for the checkpoint that is being written, and for its thread.

    A run that ends with another error says so here if this one failed too.
    """
    self._pool.shutdown()
    if self._future is not None and (error := self._future.exception()):
      logging.warning('the checkpoint under way failed too: %s', error)

  def save(
      self, step: int, write: Callable[[pathlib.Path], Any],
      then: Callable[[], None] | None = None) -> None:
    """Writes a checkpoint and forgets all but the newest; all workers call it.

    Args:
      step: env steps, part of the folder's name.
      write: function that writes files and folders below a given folder; it
        may return a function that writes the rest, called in a thread.
      then: called in that thread when the checkpoint is whole.

    Raises:
      UserError: if the disk is full or cannot be written, now or in the thread
        at the one before; older checkpoints stay as they are.
    """
    self.settle()
    begin = time.monotonic()
    temporary = self.directory / f'writing-{step:012d}'
    with _cleaning(temporary, self.directory):
      if self._workers.is_chief:
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in self.directory.glob('writing-*'):  # Of a killed one.
          shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
      self._workers.barrier()
      rest = write(temporary)
    def finish():
      with _cleaning(temporary, self.directory):
        if rest is not None:
          rest()
        self._workers.barrier()
        if self._workers.is_chief:
          self._seal(temporary, step)
        self._workers.barrier()
      if then is not None:
        try:
          then()
        except OSError as error:  # The checkpoint is whole all the same.
          logging.warning('what an older checkpoint needed stays: %s', error)
      self.seconds = time.monotonic() - begin
    if self._workers.count > 1:
      finish()  # All of them at the same place in the run.
    else:
      self._future = self._pool.submit(finish)

  def _seal(self, temporary, step):
    """Adds checksums, names the folder and forgets older ones."""
    manifest = {
        str(path.relative_to(temporary)): _checksum(path)
        for path in sorted(temporary.rglob('*')) if path.is_file()}
    (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in (*temporary.rglob('*'), temporary):
      _sync(path)
    final = self._free(step)
    os.replace(temporary, final)
    _sync(self.directory)
    # Of one step the newest alone counts: an older one is no fallback.
    twins = [
        x for x in self.all() if x != final and _order(x)[0] == step]
    others = [x for x in self.all() if x not in twins]
    for old in (*twins, *others[:-self.keep]):
      shutil.rmtree(old, ignore_errors=True)

  def _free(self, step):
    """Returns the path of a new checkpoint, the last one of its step."""
    numbers = [
        number for at, number in map(_order, self.all()) if at == step]
    ending = f'-{max(numbers) + 1}' if numbers else ''
    return self.directory / f'step-{step:012d}{ending}'

  def set_aside(self, folder: pathlib.Path) -> None:
    """Renames the checkpoints after `folder`: a run goes on without them.

    They are damaged, and were they left, later ones would count as older.
    """
    for path in self.all():
      if _order(path) > _order(folder):
        target = path.with_name(f'damaged-{path.name}')
        shutil.rmtree(target, ignore_errors=True)
        os.replace(path, target)
        logging.warning('checkpoint %s is now %s', path, target.name)

  def all(self) -> list[pathlib.Path]:
    """Returns the checkpoint folders, oldest first."""
    if not self.directory.exists():
      return []
    return sorted(
        (x for x in self.directory.iterdir() if _NAME.fullmatch(x.name)),
        key=_order)

  def latest(self) -> pathlib.Path | None:
    """Returns the newest checkpoint whose files are as they were written.

    Damaged ones are passed over with a warning. The chief looks, and all
    workers, which must all call this, get its answer.
    """
    folders = self.all()
    chosen = -1
    if self._workers.is_chief:
      for number in reversed(range(len(folders))):
        damage = find_damage(folders[number])
        if damage is None:
          chosen = number
          break
        if not folders[number].exists():
          continue  # The run that writes them has gone on.
        logging.warning(
            'checkpoint %s is damaged (%s) and passed over',
            folders[number], damage)
    chosen = int(self._workers.chiefs(chosen))
    return folders[chosen] if chosen >= 0 else None

  def nothing_whole(self) -> errors.UserError:
    """Returns the error of a run without a whole checkpoint."""
    if self.all():
      return errors.UserError(
          f'every checkpoint in {self.directory} is damaged; mend the disk, or '
          'choose another --logdir')
    return errors.UserError(
        f'{self.directory.parent} has no checkpoint yet; train first, or check '
        '--logdir')


@contextlib.contextmanager
def _cleaning(temporary: pathlib.Path, directory: pathlib.Path):
  """Removes what could not be written, and says so in a UserError."""
  try:
    yield
  except errors.UserError:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
  except (OSError, tf.errors.OpError) as error:
    shutil.rmtree(temporary, ignore_errors=True)
    reason = getattr(error, 'message', None) or getattr(
        error, 'strerror', None) or error
    again = 'it resumes at the last checkpoint' if any(
        map(_NAME.fullmatch, _names(directory))) else (
            'it begins anew, as there is no checkpoint yet')
    raise errors.UserError(
        f'cannot write a checkpoint to {directory}: {_plain(reason)}; '
        'free space or change its permissions, then start the same command '
        f'again: {again}') from error


def _names(directory: pathlib.Path) -> list[str]:
  """Returns the names in a directory, [] if it cannot be read."""
  try:
    return os.listdir(directory)
  except OSError:
    return []


def _plain(reason) -> str:
  """Returns an error's first line without the names of TensorFlow's ops."""
  line = next(iter(str(reason).splitlines()), '')
  return re.sub(r'\{\{.*?\}\}\s*|\s*\[Op:\w+\].*', '', line)


def _order(folder: pathlib.Path) -> tuple[int, int]:
  """Returns what sorts checkpoint folders by age."""
  match = _NAME.fullmatch(folder.name)
  assert match is not None
  return int(match[1]), int((match[2] or '-0')[1:])


def alone(folder) -> pathlib.Path | None:
  """Returns a folder that is itself a checkpoint, None for another.

  Raises:
    UserError: if it is damaged.
  """
  path = pathlib.Path(folder)
  if not (path / _MANIFEST).is_file():
    return None
  if damage := find_damage(path):
    raise errors.UserError(
        f'the checkpoint {path} is damaged ({damage}); choose another of '
        f'{path.parent}')
  return path


def find_damage(folder: pathlib.Path) -> str | None:
  """Returns what is wrong with a checkpoint folder; None if nothing."""
  try:
    manifest = dict(json.loads((folder / _MANIFEST).read_text()))
  except (OSError, ValueError, TypeError) as error:
    return f'{_MANIFEST}: {error}'
  for name, expected in manifest.items():
    path = folder / name
    if not path.is_file():
      return f'{name} is missing'
    try:
      if _checksum(path) != expected:
        return f'{name} has another checksum'
    except OSError as error:  # A bad disk.
      return f'{name}: {error}'
  return None


def write_variables(folder: pathlib.Path, **trackables: Any) -> None:
  """Writes the variables of named objects as a TensorFlow checkpoint."""
  tf.train.Checkpoint(**trackables).write(str(folder / 'variables'))


def read_variables(folder: pathlib.Path, **trackables: Any) -> None:
  """Restores what `write_variables` wrote; every variable must be there.

  Raises:
    UserError: if the checkpoint has other variables.
  """
  try:
    with _readable(folder) as path:
      status = tf.train.Checkpoint(**trackables).read(str(path / 'variables'))
      # Only what was asked for: an evaluation leaves the optimizer where it is.
      status.expect_partial().assert_existing_objects_matched()
  except (AssertionError, ValueError) as error:  # Missing, of another shape.
    tf.get_logger().addFilter(_is_news)
    raise errors.UserError(
        f'the checkpoint {folder} has other variables than this '
        f'configuration builds ({str(error)[:200]}); use the configuration '
        'that made it, or another --logdir') from error


@contextlib.contextmanager
def _readable(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a folder by a path that TensorFlow does not take for a pattern.

  It finds no checkpoint where the path has brackets or backslashes, as in
  `runs/lr[1e-4]`; only then it is a link that is gone afterwards, so that
  variables which are made later cannot be restored from it.
  """
  if not re.search(r'[][\\]', str(folder)):
    yield folder
    return
  with tempfile.TemporaryDirectory() as place:
    link = pathlib.Path(place) / 'checkpoint'
    link.symlink_to(folder.resolve())
    yield link


def _is_news(record) -> bool:
  """Whether a log record says more than that a restoration failed.

  When what it was for is deleted, TensorFlow names each variable that was not
  restored on a line of its own.
  """
  message = str(record.msg)
  return 'unrestored values' not in message and (
      'in the restored object' not in message)


def write_state(folder: pathlib.Path, name: str, state: dict[str, Any]):
  """Writes a nest of dictionaries, lists, numbers, strings and arrays.

  Arrays go to <name>.npz, everything else to <name>.json; nothing is pickled.
  """
  arrays: dict[str, np.ndarray] = {}
  def encode(value):
    if isinstance(value, np.ndarray | np.generic):
      if value.dtype == object:
        raise TypeError(f'{name} holds an object array; nothing is pickled')
      arrays[f'a{len(arrays)}'] = np.asarray(value)
      return {'__array__': f'a{len(arrays) - 1}'}
    if isinstance(value, dict):
      return {'__dict__': [[k, encode(v)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
      return [encode(x) for x in value]
    return value
  text = json.dumps(encode(state))
  (folder / f'{name}.json').write_text(text)
  np.savez(folder / f'{name}.npz', allow_pickle=False, **arrays)


def read_state(folder: pathlib.Path, name: str) -> dict[str, Any]:
  """Restores what `write_state` wrote; tuples come back as lists.

  Raises:
    UserError: if it holds pickled objects, which are never loaded.
  """
  try:
    with np.load(folder / f'{name}.npz', allow_pickle=False) as file:
      arrays = {key: file[key] for key in file.files}
  except ValueError as error:
    raise errors.UserError(
        f'{folder / name}.npz is not from dv3: {error}; nothing in it was '
        'executed. Use another --logdir, or remove this checkpoint') from error
  def decode(value) -> Any:
    if isinstance(value, dict) and '__array__' in value:
      return arrays[value['__array__']]
    if isinstance(value, dict):
      return {k: decode(v) for k, v in value['__dict__']}
    if isinstance(value, list):
      return [decode(x) for x in value]
    return value
  return decode(json.loads((folder / f'{name}.json').read_text()))


def _checksum(path: pathlib.Path) -> str:
  """Returns size and CRC-32 of a file."""
  crc, size = 0, 0
  with path.open('rb') as file:
    while block := file.read(1 << 20):
      crc = zlib.crc32(block, crc)
      size += len(block)
  return f'{size}:{crc:08x}'


def _sync(path: pathlib.Path) -> None:
  """Flushes a file or folder to disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
