"""Preallocated storage of steps in chunks, each worker's in a chain."""

import numpy as np

from dv3 import types


class Chunks:
  """Steps in fixed-size chunks; a position is slot * chunk_steps + index.

  Each worker writes into a chunk of its own and goes on in a successor when it
  is full. A chunk counts the steps at which a sequence starts or may still
  start; it is freed when there is none and the chunk before it, from which a
  sequence may reach into it, is gone. Identifiers count up and are never used
  again, slots are.

  Args:
    specs: of one step.
    slots: how many chunks there is room for.
    chunk_steps: steps of a chunk.
    workers: how many workers write.

  Attributes:
    arrays: {name: [slots * chunk_steps, ...]}.
    ends: [slots * chunk_steps] int64, the item whose sequence ends with the
      step, -1 if there is none; valid where a step was written.
    identifier, filled, references: by slot.
    successor, predecessor: by slot, the slots of the next and the last chunk.
      There is one entry more than slots, for slot -1, which is none.
    checksum: by slot, of the chunk's file; -1 while there is none.
    current: by worker, the slot it writes into; -1 before its first step.
    slot_of: {identifier: slot}.
  """

  def __init__(
      self, specs: types.Specs, *, slots: int, chunk_steps: int,
      workers: int):
    self.chunk_steps = chunk_steps
    # Pages are taken as they are written. `zeros` would do that too, but asks
    # for no huge pages: first writes are then ten times slower.
    self.arrays = {
        name: np.empty((slots * chunk_steps, *spec.shape), spec.dtype)
        for name, spec in specs.items()}
    self.ends = np.empty(slots * chunk_steps, np.int64)
    self.identifier = np.full(slots + 1, -1, np.int64)
    self.successor = np.full(slots + 1, -1, np.int64)
    self.predecessor = np.full(slots + 1, -1, np.int64)
    self.filled = np.zeros(slots + 1, np.int64)
    self.references = np.zeros(slots + 1, np.int64)
    self.checksum = np.full(slots + 1, -1, np.int64)
    self.current = np.full(workers, -1, np.int64)
    self.slot_of: dict[int, int] = {}
    self.next_identifier = 0
    self._free = list(range(slots - 1, -1, -1))

  @property
  def next_slot(self) -> int:
    """The slot that the next chunk will take; -1 if there is no room."""
    return self._free[-1] if self._free else -1

  def open(self, worker: int) -> int:
    """Gives a worker a new chunk; returns the slot of its full one, or -1."""
    slot = self.adopt(self.next_identifier)
    self.next_identifier += 1
    full = int(self.current[worker])
    self.current[worker] = slot
    if full >= 0:
      self.link(full, slot)
      self.sweep([full])
    return full

  def link(self, slots, successors) -> None:
    """Makes chunks follow others in their chains."""
    self.successor[slots] = successors
    self.predecessor[successors] = slots

  def adopt(self, identifier: int) -> int:
    """Gives the chunk of an identifier a slot, and returns it."""
    slot = self._free.pop()
    self.identifier[slot] = identifier
    self.successor[slot] = self.predecessor[slot] = -1
    self.filled[slot] = 0
    self.references[slot] = 0
    self.checksum[slot] = -1
    self.slot_of[identifier] = slot
    return slot

  def append(self, steps: dict[str, np.ndarray], workers: np.ndarray):
    """Writes one step of each worker; their chunks must have room.

    Returns:
      [n] int64 positions, referred to.
    """
    slots = self.current[workers]
    positions = slots * self.chunk_steps + self.filled[slots]
    for name, array in self.arrays.items():
      array[positions] = steps[name]
    self.ends[positions] = -1
    self.filled[slots] += 1
    self.references[slots] += 1  # Workers differ, so the slots do.
    return positions

  def refer(self, positions: np.ndarray) -> None:
    """Counts sequences that start, or may still start, at positions."""
    np.add.at(self.references, positions // self.chunk_steps, 1)

  def release(self, positions: np.ndarray) -> None:
    """Undoes `refer`, and frees the chunks where nothing starts any more."""
    slots = positions // self.chunk_steps
    np.subtract.at(self.references, slots, 1)
    empty = self.references[slots] == 0
    if empty.any():
      self.sweep(set(slots[empty].tolist()))

  def sweep(self, slots) -> None:
    """Frees those of some used slots that nothing needs, and what follows."""
    current = set(self.current.tolist())
    for slot in slots:
      while slot >= 0 and slot not in current and (
          self.identifier[slot] >= 0 and self.references[slot] == 0
          and self.predecessor[slot] < 0):
        del self.slot_of[int(self.identifier[slot])]
        self.identifier[slot] = -1
        self._free.append(slot)
        slot = int(self.successor[slot])
        self.predecessor[slot] = -1

  def walk(self, starts: np.ndarray, length: int) -> np.ndarray:
    """Returns the positions [n, length] of sequences through successors.

    Steps whose chunk is gone have position -1.
    """
    slot, index = np.divmod(starts, self.chunk_steps)
    hop, index = np.divmod(
        index[:, None] + np.arange(length), self.chunk_steps)
    hops = int(hop[:, -1].max(initial=0))
    if not hops:
      return slot[:, None] * self.chunk_steps + index
    chain = [slot]
    for _ in range(hops):
      chain.append(self.successor[chain[-1]])
    slots = np.take_along_axis(np.stack(chain, 1), hop, 1)
    return np.where(slots >= 0, slots * self.chunk_steps + index, -1)

  def advance(self, positions: np.ndarray, steps: int) -> np.ndarray:
    """Returns the positions [n] some steps later; -1 where a chunk is gone."""
    slot, index = np.divmod(positions, self.chunk_steps)
    hop, index = np.divmod(index + steps, self.chunk_steps)
    for number in range(int(hop.max(initial=0))):
      slot = np.where(hop > number, self.successor[slot], slot)
    return np.where(slot >= 0, slot * self.chunk_steps + index, -1)

  def stepid(self, positions: np.ndarray) -> np.ndarray:
    """Returns identifiers of steps that stay unique when slots are reused."""
    slot, index = np.divmod(positions, self.chunk_steps)
    return self.identifier[slot] * self.chunk_steps + index

  def position_of(self, stepid: np.ndarray) -> np.ndarray:
    """Returns positions [n] of step identifiers; -1 where they are gone."""
    identifier, index = np.divmod(stepid, self.chunk_steps)
    slots = np.array(
        [self.slot_of.get(x, -1) for x in identifier.tolist()], np.int64)
    return np.where(slots >= 0, slots * self.chunk_steps + index, -1)

  def alive(self) -> list[int]:
    """Returns the slots in use, oldest identifier first."""
    return [slot for _, slot in sorted(self.slot_of.items())]

  def entries(self, slot: int) -> dict[str, np.ndarray]:
    """Returns {name: views of the written steps} of a chunk."""
    begin = slot * self.chunk_steps
    end = begin + int(self.filled[slot])
    return {name: array[begin: end] for name, array in self.arrays.items()}
