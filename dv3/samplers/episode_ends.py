"""The sampler that prefers the ends of episodes."""

import numpy as np

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.samplers import sum_tree


@registry.register('sampler', 'episode_ends')
class EpisodeEndsSampler(interfaces.Sampler):
  """Draws sequences that end with an episode more often than others.

    p(sequence) ~ 1 + extra if its last step ends an episode, else 1

  The 2021 form cuts sequences out of whole episodes at a uniform start, with
  the starts that would run over the end moved back to it, so that the last
  sequence of an episode is drawn `length` times as often as another (1 + length
  times in the later code, 07d906e, `prioritize_ends`). Here sequences may cross
  episodes, and long episodes count in proportion to their length.

  Args:
    capacity: the most sequences that are stored.
    extra: the additional weight; 49 is one less than the 2021 form's sequence
      length.

  Source: danijar/dreamerv2 0216d33, `oversample_ends`.
  """

  def __init__(self, *, capacity: int, extra: float = 49.0):
    errors.check_above(-1, errors.named('sampler.episode_ends', extra=extra))
    self._items = sum_tree.Items(capacity)
    self._extra = extra

  def add(self, items):
    self._items.add(items, 1.0)

  def mark_ends(self, items):
    self._items.set(items, np.full(len(items), 1.0 + self._extra))

  def remove(self, items):
    self._items.remove(items)

  def sample(self, count, rng):
    return self._items.sample(count, rng)

  def state(self):
    return {'item/weight': self._items.weights()}

  def load(self, state, items):
    if len(items):
      self._items.add(items, state['item/weight'])
