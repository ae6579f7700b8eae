"""The sampler that prefers sequences with large errors."""

import numpy as np

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.samplers import sum_tree


@registry.register('sampler', 'prioritized')
class PrioritizedSampler(interfaces.Sampler):
  """Draws a sequence with a probability in proportion to its priority.

    priority = (f max_t |x_t| + (1 - f) mean_t |x_t| + epsilon) ** exponent

  with x a signal of its last update. New sequences have the largest priority
  that was seen so far, 1 at first. The draws are not corrected for by weights
  in the loss.

  Args:
    capacity: the most sequences that are stored.
    signal: which signal of an update.
    exponent: 0 is uniform.
    max_fraction: f, in [0, 1].
    epsilon: keeps sequences without error.

  Source: Kapturowski et al. 2019 (R2D2), section 2.3; Schaul et al. 2016,
    https://arxiv.org/abs/1511.05952.
  """

  def __init__(
      self, *, capacity: int, signal: str = 'loss', exponent: float = 0.9,
      max_fraction: float = 0.9, epsilon: float = 1e-6):
    errors.check_above(0, errors.named(
        'sampler.prioritized', epsilon=epsilon))
    errors.check_within(0, 1, errors.named(
        'sampler.prioritized', max_fraction=max_fraction))
    self._items = sum_tree.Items(capacity)
    self._signal = signal
    self._exponent = exponent
    self._max_fraction = max_fraction
    self._epsilon = epsilon
    self._largest = 1.0

  def add(self, items):
    self._items.add(items, self._largest)

  def remove(self, items):
    self._items.remove(items)

  def sample(self, count, rng):
    return self._items.sample(count, rng)

  def update(self, items, signals, ends):
    del ends
    error = np.abs(sum_tree.signal(signals, self._signal))
    mixed = self._max_fraction * error.max(1) + (
        1 - self._max_fraction) * error.mean(1)
    priority = (mixed + self._epsilon) ** self._exponent
    known = np.isfinite(priority)
    if known.any():
      self._items.set(items[known], priority[known])
      self._largest = max(self._largest, float(priority[known].max()))

  def state(self):
    return {
        'item/priority': self._items.weights(),
        'largest': np.float64(self._largest)}

  def load(self, state, items):
    self._largest = float(state['largest'])
    if len(items):
      self._items.add(items, state['item/priority'])
