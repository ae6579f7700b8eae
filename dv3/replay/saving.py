"""What a checkpoint holds of replay, and how replay is restored from it.

A checkpoint's folder holds everything but the full chunks: these lie in files
of their own, to which it refers by identifier and checksum.

  replay.json    numbers, specs, state of the random generator
  index.npz      chunks and their links, sequences, queue, workers' positions
  chunks.npz     the steps of chunks that are not full yet
  latents.npz    the latents of all chunks
  sampler.npz    the sampler's state

In these files chunks go by their number in the order of their identifiers, and
a step is number * chunk_steps + index.
"""

import collections
import json
import os
import pathlib

import numpy as np
from absl import logging

from dv3 import errors
from dv3.replay import context
from dv3.replay import snapshot
from dv3.replay import storage

_FORMAT = 1


def take(replay) -> snapshot.Snapshot:
  """Takes what a checkpoint needs besides the files of full chunks.

  Args:
    replay: the `Replay`; it may go on before the snapshot is written.

  Raises:
    UserError: if a full chunk could not be written to disk.
  """
  chunks = replay.chunks
  slots = chunks.alive()
  if replay.writer is not None:
    replay.writer.settle(chunks)
    for slot in slots:
      if chunks.filled[slot] == chunks.chunk_steps and (
          chunks.checksum[slot] < 0):
        replay.writer.submit(chunks, slot)
    replay.writer.wait(chunks)
  number = np.full(len(chunks.identifier), -1, np.int64)
  number[slots] = np.arange(len(slots))
  renumber = lambda positions: (
      number[positions // chunks.chunk_steps] * chunks.chunk_steps
      + positions % chunks.chunk_steps)
  items = np.arange(replay.first_item, replay.next_item)
  steps = {}
  for i, slot in enumerate(slots):
    steps[slot] = {'chunks': {}, 'latents': {}}
    for name, value in chunks.entries(slot).items():
      if context.is_latent(name):
        steps[slot]['latents'][f'{i}/{name}'] = value
      elif chunks.checksum[slot] < 0:
        steps[slot]['chunks'][f'{i}/{name}'] = value
  held = np.minimum(replay.counts, replay.stored_length)
  archives = {
      'index': {
          'identifier': chunks.identifier[slots],
          'successor': number[chunks.successor[slots]],
          'filled': chunks.filled[slots],
          'checksum': chunks.checksum[slots],
          'current': number[chunks.current],
          'counts': replay.counts.copy(),
          'recent': np.where(
              np.arange(replay.stored_length) < held[:, None],
              renumber(replay.recent), -1),
          'starts': renumber(replay.starts[items % replay.capacity]),
          'queue': np.array(replay.queue, np.int64)},
      'sampler': {
          name: np.array(value)
          for name, value in replay.sampler.state().items()}}
  numbers = {
      'format': _FORMAT, 'specs': _describe(replay.specs),
      'length': replay.stored_length, 'chunk_steps': chunks.chunk_steps,
      'first_item': replay.first_item, 'next_item': replay.next_item,
      'next_identifier': chunks.next_identifier,
      'sampler': type(replay.sampler).__qualname__,
      'seed': replay.seed, 'rng': replay.rng.bit_generator.state}
  return snapshot.Snapshot(json.dumps(numbers), archives, steps)


def load(replay, folder) -> None:
  """Restores an empty replay.

  The capacity and the number of workers may be others than when it was saved:
  the oldest sequences are dropped, new workers begin, the steps of missing
  ones stay as long as others do. The chunk size stays the saved one. With
  another seed the draws from here on differ. A damaged chunk costs its
  sequences: it is renamed to *.damaged, with a warning.

  Args:
    replay: the `Replay`, without steps.
    folder: of the checkpoint.

  Raises:
    UserError: if the steps have other entries, or sequences another length, or
      the sampler is another one, or the checkpoint itself is damaged.
  """
  folder = pathlib.Path(folder)
  try:
    numbers = json.loads((folder / 'replay.json').read_text())
    _check(replay, numbers, folder)
    index, sampler = (
        storage.read_archive(folder / f'{name}.npz')
        for name in ('index', 'sampler'))
    needed, first = _needed(replay, numbers, index)
    replay.chunks = chunks = replay.make_chunks(
        numbers['chunk_steps'], least=int(needed.sum()) + replay.workers)
    slots = _load_chunks(replay, folder, index, needed)
  except (OSError, ValueError, storage.Damage) as error:
    raise errors.UserError(
        f'the replay in {folder} cannot be read: {error}; remove this '
        'checkpoint to resume at an older one') from error
  chunks.next_identifier = numbers['next_identifier']
  pairs = np.stack([slots[:-1], slots[index['successor']]])
  chunks.link(*pairs[:, (pairs >= 0).all(0)])
  steps = chunks.chunk_steps
  position = lambda x: np.where(
      (x >= 0) & (slots[x // steps] >= 0),
      slots[x // steps] * steps + x % steps, -1)
  _load_workers(replay, index, slots, position)
  _load_items(replay, numbers, index, sampler, position, first)
  chunks.sweep(chunks.alive())
  if numbers['seed'] == replay.seed:
    replay.rng.bit_generator.state = numbers['rng']


def _describe(specs) -> dict[str, list]:
  return {k: [list(s.shape), np.dtype(s.dtype).name] for k, s in specs.items()}


def _check(replay, numbers, folder) -> None:
  """Raises UserError where a checkpoint does not fit."""
  if numbers.get('format') != _FORMAT:
    raise errors.UserError(
        f'the replay in {folder} has format {numbers.get("format")}, not '
        f'{_FORMAT}; use the version of dv3 that made it')
  old, new = numbers['specs'], _describe(replay.specs)
  differ = sorted(k for k in old | new if old.get(k) != new.get(k))
  remedy = 'use the configuration that made it, or another --logdir'
  if differ:
    listed = ', '.join(
        f'{k} was {old.get(k, "absent")}, is {new.get(k, "absent")}'
        for k in differ)
    raise errors.UserError(
        f'the replay in {folder} has other entries: {listed}; {remedy}')
  if numbers['length'] != replay.stored_length:
    raise errors.UserError(
        f'the replay in {folder} has sequences of {numbers["length"]} steps '
        f'(batch_length and replay_context), not {replay.stored_length}; '
        f'{remedy}')
  sampler = type(replay.sampler).__qualname__
  if numbers['sampler'] != sampler:
    raise errors.UserError(
        f'the replay in {folder} was drawn from by {numbers["sampler"]}, not '
        f'{sampler}; {remedy}')


def _needed(replay, numbers, index):
  """Returns (which chunks to load [n] bool, the first sequence to keep)."""
  chunk_steps, length = numbers['chunk_steps'], replay.stored_length
  first = max(0, len(index['starts']) - replay.capacity)
  needed = np.zeros(len(index['identifier']) + 1, bool)
  # The last start in a chunk, or the last step for which one may come, says
  # how far its chain is needed.
  last = np.full(len(needed), -1, np.int64)
  number, within = np.divmod(index['starts'][first:], chunk_steps)
  np.maximum.at(last, number, within)
  recent = index['recent'][:replay.workers]
  needed[recent[recent >= 0] // chunk_steps] = True
  needed[index['current'][:replay.workers]] = True
  successor = np.append(index['successor'], -1)
  chain = np.flatnonzero(last >= 0)
  hops = (last[chain] + length - 1) // chunk_steps
  needed[chain] = True
  while len(chain):
    chain, hops = successor[chain[hops > 0]], hops[hops > 0] - 1
    needed[chain] = True
  return needed[:-1], first


def _load_chunks(replay, folder, index, needed) -> np.ndarray:
  """Reads chunks; returns their slots [n + 1], -1 for lost ones and the last.

  Chunks that nothing needs any more have no slot either.
  """
  chunks = replay.chunks
  slots = np.full(len(needed) + 1, -1, np.int64)
  with (
      storage.open_archive(folder / 'chunks.npz') as along,
      storage.open_archive(folder / 'latents.npz') as latents):
    for i in np.flatnonzero(needed).tolist():
      identifier, checksum = (
          int(index[k][i]) for k in ('identifier', 'checksum'))
      path = None
      if checksum >= 0:
        if replay.writer is None:
          raise errors.UserError(
              f'the replay in {folder} needs the folder of its chunk files; '
              'pass directory')
        path = storage.chunk_path(replay.writer.directory, identifier)
      try:
        entries = storage.read_chunk(path, checksum) if path else {}
        for name in replay.specs.keys() - entries.keys():
          archive = latents if context.is_latent(name) else along
          entries[name] = storage.read_member(archive, f'{i}/{name}')
      except storage.Damage as damage:
        logging.warning(
            'replay chunk %s is damaged (%s): its %d steps are left out',
            path or identifier, damage, index['filled'][i])
        if path and path.exists():
          os.replace(path, path.with_suffix('.damaged'))
        continue
      slots[i] = slot = chunks.adopt(identifier)
      chunks.filled[slot] = index['filled'][i]
      chunks.checksum[slot] = checksum
      for name, view in chunks.entries(slot).items():
        view[:] = entries[name]
  return slots


def _load_workers(replay, index, slots, position) -> None:
  """Restores where workers write, and the steps at which sequences may start.

  A worker whose last chunks are lost begins a new stream.
  """
  chunks, length = replay.chunks, replay.stored_length
  kept = min(replay.workers, len(index['current']))
  replay.counts[:kept] = index['counts'][:kept]
  replay.recent[:kept] = position(index['recent'][:kept])
  for worker in range(kept):
    count = int(replay.counts[worker])
    # Of the last L steps, the oldest starts a sequence already.
    waiting = replay.recent[
        worker, np.arange(max(0, count - length + 1), count) % length]
    slot = slots[index['current'][worker]]
    if slot < 0 or (waiting < 0).any():
      replay.counts[worker] = 0
    else:
      chunks.current[worker] = slot
      chunks.refer(waiting)


def _load_items(replay, numbers, index, sampler, position, first) -> None:
  """Restores the sequences whose chunks are all there."""
  chunks = replay.chunks
  starts = position(index['starts'])
  ends = np.where(
      starts >= 0, chunks.advance(starts, replay.stored_length - 1), -1)
  whole = ends >= 0
  whole[:first] = False
  kept = np.flatnonzero(whole)
  old = numbers['first_item'] + kept
  if len(kept) == len(starts) - first:
    replay.first_item = numbers['first_item'] + first
  else:
    # Numbers without gaps, and none that meant another sequence before.
    replay.first_item = numbers['next_item']
  replay.next_item = replay.first_item + len(kept)
  items = np.arange(replay.first_item, replay.next_item)
  replay.starts[items % replay.capacity] = starts[kept]
  chunks.refer(starts[kept])
  for slot in chunks.alive():
    begin = slot * chunks.chunk_steps
    chunks.ends[begin: begin + int(chunks.filled[slot])] = -1
  chunks.ends[ends[kept]] = items
  renamed = dict(zip(old.tolist(), items.tolist(), strict=True))
  replay.queue = collections.deque(
      renamed[x] for x in index['queue'].tolist() if x in renamed)
  replay.sampler.load({
      name: value[kept] if name.startswith('item/') else value
      for name, value in sampler.items()}, items)
