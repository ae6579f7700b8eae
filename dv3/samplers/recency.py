"""The sampler that prefers recent sequences."""

import numpy as np

from dv3 import interfaces
from dv3 import registry


@registry.register('sampler', 'recency')
class RecencySampler(interfaces.Sampler):
  """Draws a sequence by its age, 0 for the newest.

    p(age) ~ (age + 1) ** -exponent

  A draw costs O(log n), by bisection in the cumulated weights.

  Args:
    capacity: the most sequences that are stored.
    exponent: how fast old sequences fade; 0 is uniform.

  Source: danijar/dreamerv3 e3f0224, replay selector "recency", exponent 1.
  """

  def __init__(self, *, capacity: int, exponent: float = 1.0):
    self._cumulated = np.cumsum(
        np.arange(1, capacity + 1, dtype=np.float64) ** -exponent)
    self._first = 0
    self._next = 0

  def add(self, items):
    if self._first == self._next:
      self._first = int(items[0])
    self._next = int(items[-1]) + 1

  def remove(self, items):
    self._first = int(items[-1]) + 1

  def sample(self, count, rng):
    stored = self._cumulated[:self._next - self._first]
    ages = np.searchsorted(stored, rng.random(count) * stored[-1], 'right')
    return self._next - 1 - np.minimum(ages, len(stored) - 1)

  def state(self):
    return {}

  def load(self, state, items):
    if len(items):
      self.add(items)
