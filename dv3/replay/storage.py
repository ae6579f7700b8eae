"""Replay on disk: chunks as they fill, the rest with each checkpoint.

A chunk file holds the steps of one full chunk but for the latents, which
change later. Files are NumPy archives, whose members carry CRC-32 checksums;
nothing is pickled. They are written beside and renamed.
"""

import collections
import json
import os
import pathlib
import re
import zipfile

import numpy as np
from absl import logging

from dv3 import errors
from dv3.replay import context as context_lib

_CHUNK = re.compile(r'chunk-(\d{12})\.npz')


def write_chunk(replay, directory, slot: int) -> None:
  """Writes the steps of a chunk, without latents.

  Raises:
    UserError: if the disk is full or cannot be written.
  """
  directory = pathlib.Path(directory)
  identifier = int(replay.chunks.identifier[slot])
  arrays = _steps(replay, slot, latents=False)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f'writing-{identifier:012d}'
    with open(temporary, 'wb') as file:
      np.savez(file, **arrays)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, _path(directory, identifier))
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise errors.UserError(
        f'cannot write replay to {directory}: {error.strerror}; free space or '
        'change its permissions, then start the same command again') from error


def save(replay, folder) -> None:
  """Writes what a checkpoint needs besides the full chunks' files.

  Args:
    replay: the `Replay`.
    folder: an existing folder of the checkpoint.
  """
  folder = pathlib.Path(folder)
  chunks = replay.chunks
  slots = np.array(chunks.alive(), np.int64)
  order = {int(slot): i for i, slot in enumerate(slots)}
  number = lambda x: np.array([order.get(int(s), -1) for s in x], np.int64)
  items = np.arange(replay.first_item, replay.next_item)
  # Chunks that are not on disk as a whole go along with the checkpoint.
  along = [
      i for i, slot in enumerate(slots) if replay.directory is None
      or chunks.filled[slot] < chunks.chunk_steps
      or not _path(replay.directory, int(chunks.identifier[slot])).exists()]
  for i in along:
    np.savez(folder / f'chunk-{i}.npz', **_steps(
        replay, int(slots[i]), latents=False))
  latents = {
      f'{i}/{name}': value for i, slot in enumerate(slots)
      for name, value in _steps(replay, int(slot), latents=True).items()}
  np.savez(folder / 'latents.npz', **latents)
  np.savez(
      folder / 'index.npz', identifier=chunks.identifier[slots],
      successor=number(chunks.successor[slots]),
      filled=chunks.filled[slots], along=np.array(along, np.int64),
      current=number(chunks.current), counts=replay.counts,
      starts=_pairs(replay, replay.starts[items % replay.capacity], order),
      recent=_pairs(replay, replay.recent.reshape(-1), order),
      queue=np.array(replay.queue, np.int64) - replay.first_item)
  (folder / 'replay.json').write_text(json.dumps({
      'next_identifier': chunks.next_identifier,
      'first_item': replay.first_item,
      'chunk_steps': chunks.chunk_steps, 'length': replay.stored_length,
      'rng': replay.rng.bit_generator.state}))
  np.savez(folder / 'sampler.npz', **replay.sampler.state())


def load(replay, folder) -> None:
  """Restores an empty replay; a damaged chunk costs its sequences.

  Raises:
    UserError: if lengths or chunk size differ from those of the checkpoint.
  """
  folder = pathlib.Path(folder)
  state = json.loads((folder / 'replay.json').read_text())
  chunks = replay.chunks
  for name, now in (
      ('chunk_steps', chunks.chunk_steps), ('length', replay.stored_length)):
    if state[name] != now:
      raise errors.UserError(
          f'replay was saved with {name} {state[name]}, not {now}; keep '
          'train.batch_length, train.replay_context and '
          'train.replay_chunk_steps, or use another --logdir')
  with np.load(folder / 'index.npz', allow_pickle=False) as file:
    index = {name: file[name] for name in file.files}
  with np.load(folder / 'latents.npz', allow_pickle=False) as latents:
    slots = _load_chunks(replay, folder, index, latents)
  chunks.next_identifier = state['next_identifier']
  valid = np.array([slot >= 0 for slot in slots], bool)
  slots = np.array(slots, np.int64)
  pick = lambda x: np.where(x >= 0, slots[x], -1) if len(slots) else x
  chunks.successor[slots[valid]] = pick(index['successor'])[valid]
  workers = min(replay.workers, len(index['current']))
  chunks.current[:workers] = pick(index['current'])[:workers]
  replay.counts[:workers] = index['counts'][:workers]
  length = replay.stored_length
  recent = _positions(replay, index['recent'], slots).reshape(-1, length)
  replay.recent[:workers] = recent[:workers]
  for worker in range(workers):
    if chunks.current[worker] < 0 < replay.counts[worker]:
      replay.counts[worker] = 0  # Its chunk was damaged: a new stream begins.
    held = min(int(replay.counts[worker]), length - 1)
    newest = (replay.counts[worker] - 1 - np.arange(held)) % length
    chunks.refer(replay.recent[worker, newest], 1)
  _load_items(replay, folder, index, slots, state)
  replay.rng.bit_generator.state = state['rng']


def _load_chunks(replay, folder, index, latents):
  """Reads the chunks; returns their slots, -1 for those that are lost."""
  slots = []
  along = set(index['along'].tolist())
  chunks = replay.chunks
  for i, identifier in enumerate(index['identifier'].tolist()):
    path = folder / f'chunk-{i}.npz' if i in along else _path(
        replay.directory, identifier)
    try:
      with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
      arrays |= {
          name: latents[f'{i}/{name}'] for name in context_lib.latent_names(
              replay.specs)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as e:
      logging.warning('replay chunk %s is damaged and left out: %s', path, e)
      if path.exists() and i not in along:
        os.replace(path, path.with_suffix('.damaged'))
      slots.append(-1)
      continue
    slot = chunks.take_slot(identifier)
    count = int(index['filled'][i])
    begin = slot * chunks.chunk_steps
    for name, array in chunks.arrays.items():
      array[begin: begin + count] = arrays[name][:count]
    chunks.filled[slot] = count
    slots.append(slot)
  return slots


def _load_items(replay, folder, index, slots, state):
  """Restores the sequences whose chunks are all there."""
  chunks = replay.chunks
  starts = _positions(replay, index['starts'], slots)
  whole = starts >= 0
  if whole.any():
    positions = chunks.walk(np.where(whole, starts, 0), replay.stored_length)
    whole &= (positions >= 0).all(1)
  kept = np.flatnonzero(whole)[-replay.capacity:]
  complete = len(kept) == len(starts)
  replay.first_item = state['first_item'] if complete else 0
  number = {int(old): new for new, old in enumerate(kept)}
  items = replay.first_item + np.arange(len(kept))
  replay.next_item = replay.first_item + len(kept)
  replay.starts[items % replay.capacity] = starts[kept]
  chunks.refer(starts[kept], 1)
  replay._hold(starts[kept], 1)
  replay.queue = collections.deque(
      replay.first_item + number[int(x)] for x in index['queue']
      if int(x) in number)
  if complete:
    with np.load(folder / 'sampler.npz', allow_pickle=False) as file:
      replay.sampler.load({name: file[name] for name in file.files})
  elif len(items):
    replay.sampler.add(items)


def prune(directory, folders) -> None:
  """Deletes chunk files that none of the checkpoint folders refers to."""
  if directory is None:
    return
  needed = set()
  for folder in folders:
    with np.load(
        pathlib.Path(folder) / 'index.npz', allow_pickle=False) as file:
      needed |= set(file['identifier'].tolist())
  newest = max(needed, default=-1)
  for path in pathlib.Path(directory).glob('chunk-*.npz'):
    match = _CHUNK.fullmatch(path.name)
    if match and int(match[1]) not in needed and int(match[1]) <= newest:
      path.unlink(missing_ok=True)


def _path(directory, identifier: int) -> pathlib.Path:
  return pathlib.Path(directory) / f'chunk-{identifier:012d}.npz'


def _steps(replay, slot, latents):
  """Returns {name: written steps} of a chunk, its latents or the rest."""
  chunks = replay.chunks
  begin = slot * chunks.chunk_steps
  end = begin + int(chunks.filled[slot])
  return {
      name: array[begin: end] for name, array in chunks.arrays.items()
      if context_lib.is_latent(name) == latents}


def _pairs(replay, positions, order):
  """Turns positions into (number of the chunk, index) [n, 2]."""
  slot, index = np.divmod(positions, replay.chunks.chunk_steps)
  lookup = np.full(len(replay.chunks.identifier) + 1, -1, np.int64)
  for key, value in order.items():
    lookup[key] = value
  return np.stack([lookup[slot], index], -1)


def _positions(replay, pairs, slots):
  """Undoes `_pairs`; -1 where the chunk is lost."""
  slots = np.asarray(slots, np.int64)
  if not len(slots) or not len(pairs):
    return np.full(len(pairs), -1, np.int64)
  slot = np.where(pairs[:, 0] >= 0, slots[pairs[:, 0]], -1)
  return np.where(
      slot >= 0, slot * replay.chunks.chunk_steps + pairs[:, 1], -1)
