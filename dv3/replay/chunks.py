"""Preallocated storage of steps in chunks, each worker's in a chain."""

import numpy as np

from dv3 import types
from dv3.replay import memory


class Chunks:
  """Steps in fixed-size chunks; a position is slot * chunk_steps + index.

  Each worker writes into a chunk of its own and goes on in a successor when it
  is full. A chunk is freed when no sequence refers to it. Identifiers count up
  and are never used again, slots are.

  Args:
    specs: of one step.
    capacity: steps to hold.
    chunk_steps: steps of a chunk.
    workers: how many workers write.
    stored_length: steps of a sequence.
  """

  def __init__(
      self, specs: types.Specs, capacity, chunk_steps, workers,
      stored_length):
    self.chunk_steps = chunk_steps
    slots = memory.slots_for(capacity, chunk_steps, workers, stored_length)
    # Zeros are mapped lazily: pages are taken as they are written.
    self.arrays = {
        name: np.zeros((slots * chunk_steps, *spec.shape), spec.dtype)
        for name, spec in specs.items()}
    self.identifier = np.full(slots, -1, np.int64)
    self.successor = np.full(slots, -1, np.int64)
    self.filled = np.zeros(slots, np.int64)
    self.references = np.zeros(slots, np.int64)
    self.current = np.full(workers, -1, np.int64)
    self.slot_of: dict[int, int] = {}
    self.next_identifier = 0
    self._free = list(range(slots - 1, -1, -1))

  def open(self, worker: int) -> int:
    """Gives a worker a new chunk; returns the slot of its full one, or -1."""
    slot = self._free.pop()
    self.adopt(slot, self.next_identifier)
    self.next_identifier += 1
    full = int(self.current[worker])
    self.current[worker] = slot
    if full >= 0:
      self.successor[full] = slot
      self._release_if_unused(full)
    return full

  def adopt(self, slot: int, identifier: int) -> None:
    """Makes an empty slot hold the chunk of an identifier."""
    self.identifier[slot] = identifier
    self.successor[slot] = -1
    self.filled[slot] = 0
    self.references[slot] = 0
    self.slot_of[identifier] = slot

  def take_slot(self, identifier: int) -> int:
    """Returns a free slot for a chunk that is being loaded."""
    slot = self._free.pop()
    self.adopt(slot, identifier)
    return slot

  def append(self, steps: dict[str, np.ndarray], workers: np.ndarray):
    """Writes one step of each worker; their chunks must have room.

    Returns:
      [n] int64 positions.
    """
    slots = self.current[workers]
    positions = slots * self.chunk_steps + self.filled[slots]
    for name, array in self.arrays.items():
      array[positions] = steps[name]
    self.filled[slots] += 1
    return positions

  def refer(self, positions: np.ndarray, change: int) -> None:
    """Adds `change` references to the chunks of positions."""
    np.add.at(self.references, positions // self.chunk_steps, change)
    if change < 0:
      for slot in np.unique(positions // self.chunk_steps):
        self._release_if_unused(int(slot))

  def walk(self, start: np.ndarray, length: int) -> np.ndarray:
    """Returns the positions [n, length] of sequences through successors."""
    slot, index = np.divmod(start, self.chunk_steps)
    index = index[:, None] + np.arange(length)
    hop, index = np.divmod(index, self.chunk_steps)
    hops = int(hop[:, -1].max(initial=0))
    if not hops:
      return slot[:, None] * self.chunk_steps + index
    chain = [slot]
    for _ in range(hops):
      chain.append(self.successor[chain[-1]])
    slots = np.take_along_axis(np.stack(chain, 1), hop, 1)
    return slots * self.chunk_steps + index

  def stepid(self, positions: np.ndarray) -> np.ndarray:
    """Returns identifiers of steps that stay unique when slots are reused."""
    slot, index = np.divmod(positions, self.chunk_steps)
    return self.identifier[slot] * self.chunk_steps + index

  def position_of(self, stepid: np.ndarray) -> np.ndarray:
    """Returns positions [n] of step identifiers; -1 where they are gone."""
    identifier, index = np.divmod(stepid, self.chunk_steps)
    slots = np.array(
        [self.slot_of.get(int(x), -1) for x in identifier], np.int64)
    return np.where(slots >= 0, slots * self.chunk_steps + index, -1)

  def alive(self) -> list[int]:
    """Returns the slots in use, oldest identifier first."""
    return [slot for _, slot in sorted(self.slot_of.items())]

  def _release_if_unused(self, slot: int) -> None:
    if self.references[slot] == 0 and slot not in self.current:
      self.slot_of.pop(int(self.identifier[slot]), None)
      self.identifier[slot] = -1
      self._free.append(slot)
