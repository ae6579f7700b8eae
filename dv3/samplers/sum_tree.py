"""Draws in proportion to weights that change, in O(log n)."""

import numpy as np

from dv3 import errors

_BRANCHES = 16


class SumTree:
  """Non-negative weights, with the sums of every 16 of them on each level.

  Every sum is computed anew from its parts when one changes, so rounding does
  not build up, and equal weights give equal sums whatever came before.

  Args:
    size: number of weights, 0 at first.
  """

  def __init__(self, size: int):
    self._levels = []
    while True:
      groups = -(-size // _BRANCHES)
      self._levels.append(np.zeros((groups, _BRANCHES), np.float64))
      if groups == 1:
        break
      size = groups

  def get(self, indices: np.ndarray) -> np.ndarray:
    """Returns weights [n]."""
    return self._levels[0].reshape(-1)[indices]

  def set(self, indices: np.ndarray, weights) -> None:
    """Sets weights; of several for one index the last one counts.

    Args:
      indices: [n].
      weights: [n] or one number, non-negative and finite.
    """
    self._levels[0].reshape(-1)[indices] = weights
    for below, level in zip(self._levels, self._levels[1:], strict=False):
      indices = indices // _BRANCHES
      level.reshape(-1)[indices] = below[indices].sum(1)

  def total(self) -> float:
    """Returns the sum of all weights."""
    return float(self._levels[-1][0].sum())

  def find(self, fractions: np.ndarray) -> np.ndarray:
    """Returns the indices at which cumulated shares of the weights lie.

    Args:
      fractions: [n] in [0, 1); uniform ones give indices in proportion to the
        weights. The weights must not all be zero.

    Returns:
      [n] int64.
    """
    rest = fractions * self.total()
    indices = np.zeros(len(fractions), np.int64)
    for level in reversed(self._levels):
      weights = level[indices]
      sums = np.cumsum(weights, 1)
      branch = (sums <= rest[:, None]).sum(1)
      # Rounding may leave more than there is: the last one with a weight.
      last = _BRANCHES - 1 - np.argmax(weights[:, ::-1] > 0, 1)
      branch = np.minimum(branch, last)
      rows = np.arange(len(branch))
      rest = rest - (sums[rows, branch] - weights[rows, branch])
      indices = indices * _BRANCHES + branch
    return indices


class Items:
  """Weights of the items from the oldest to the newest stored one.

  Args:
    capacity: the most items that are stored.

  Attributes:
    first: the oldest item.
    next: one more than the newest item.
  """

  def __init__(self, capacity: int):
    self.capacity = capacity
    self.first = 0
    self.next = 0
    self._tree = SumTree(capacity)

  def add(self, items: np.ndarray, weights) -> None:
    """Appends items, whose numbers follow on."""
    if self.first == self.next:
      self.first = int(items[0])
    self.next = int(items[-1]) + 1
    self.set(items, weights)

  def remove(self, items: np.ndarray) -> None:
    """Takes away the oldest items."""
    self.set(items, 0.0)
    self.first = int(items[-1]) + 1

  def set(self, items: np.ndarray, weights) -> None:
    """Sets the weights of stored items."""
    self._tree.set(items % self.capacity, weights)

  def weights(self) -> np.ndarray:
    """Returns the weights [n] of the stored items, oldest first."""
    return self._tree.get(np.arange(self.first, self.next) % self.capacity)

  def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns [count] items, drawn in proportion to their weights."""
    slots = self._tree.find(rng.random(count))
    return self.first + (slots - self.first) % self.capacity


def signal(signals, name: str):
  """Returns what an update said under a name, float64 [B, T].

  Raises:
    UserError: if it said nothing of that name; training says 'loss' alone.
  """
  if name not in signals:
    raise errors.UserError(
        f'the sampler asks for the signal {name!r}, and updates give '
        f'{sorted(signals)}; choose one of these')
  return np.asarray(signals[name], np.float64)
