"""The uniform sampler."""

from dv3 import interfaces
from dv3 import registry


@registry.register('sampler', 'uniform')
class UniformSampler(interfaces.Sampler):
  """Draws every stored sequence with equal probability, with replacement.

  Args:
    capacity: the most sequences that are stored; not needed here.

  Source: Hafner et al., Nature 2025, "Experience replay".
  """

  def __init__(self, *, capacity: int):
    del capacity
    self._first = 0
    self._next = 0

  def add(self, items):
    if self._first == self._next:
      self._first = int(items[0])
    self._next = int(items[-1]) + 1

  def remove(self, items):
    self._first = int(items[-1]) + 1

  def sample(self, count, rng):
    return rng.integers(self._first, self._next, count)

  def state(self):
    return {}

  def load(self, state, items):
    if len(items):
      self.add(items)
