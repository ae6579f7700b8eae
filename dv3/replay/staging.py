"""Copies of sequences, into buffers that are used in turn.

A fresh array of the size of a batch costs more in page faults than the copy.
"""

import numpy as np

_LARGE_BYTES = 1024  # A step from which copying whole runs is faster.


class Staging:
  """Sets of batch buffers that take turns.

  Args:
    sets: how many; the arrays of a batch are overwritten by the batch that
      is `sets` later.
  """

  def __init__(self, sets: int):
    self._sets: list[dict[str, np.ndarray]] = [{} for _ in range(sets)]

  def turn(self) -> dict[str, np.ndarray]:
    """Returns the set that was not used for the longest time."""
    self._sets.append(self._sets.pop(0))
    return self._sets[-1]


def buffer(
    buffers: dict[str, np.ndarray], name: str, shape: tuple[int, ...],
    dtype) -> np.ndarray:
  """Returns the buffer of a name, a new one if its shape or dtype differs."""
  found = buffers.get(name)
  if found is None or found.shape != shape or found.dtype != dtype:
    found = buffers[name] = np.empty(shape, dtype)
  return found


def copy(array: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
  """Copies array[positions] into `out`.

  Args:
    array: [N, ...].
    positions: [B, n], in runs of consecutive numbers.
    out: [B, n, ...].
  """
  step_bytes = array.dtype.itemsize * array[:1].size
  if step_bytes < _LARGE_BYTES or not out.flags.c_contiguous:
    # The positions are valid; any mode but 'raise' writes without a copy.
    np.take(array, positions, axis=0, out=out, mode='clip')
    return
  positions, out = positions.reshape(-1), out.reshape(-1, *array.shape[1:])
  cuts = (np.flatnonzero(np.diff(positions) != 1) + 1).tolist()
  for begin, end in zip([0, *cuts], [*cuts, len(positions)], strict=True):
    start = positions[begin]
    out[begin: end] = array[start: start + end - begin]
