"""The Curious Replay sampler."""

import numpy as np

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.samplers import sum_tree


@registry.register('sampler', 'curious')
class CuriousSampler(interfaces.Sampler):
  """Draws what the model has seldom seen or predicts badly.

  A sequence stands for its last step. That step's priority is

    p = c beta ** visits + (|loss| + epsilon) ** alpha

  where `visits` counts how often it was trained on, within any sequence, and
  `loss` is its loss when it last was. Every trained step is updated, not only
  the sequence that was drawn.

  Args:
    capacity: the most sequences that are stored.
    signal: which signal of an update is the loss.
    c: weight of the visits.
    beta: by which each visit multiplies it, in (0, 1).
    alpha: exponent of the loss.
    epsilon: keeps steps without loss.
    initial: priority before the first visit.

  Source: Kauvar et al. 2023, "Curious Replay for Model-based Adaptation",
    https://arxiv.org/abs/2306.15934.
  """

  def __init__(
      self, *, capacity: int, signal: str = 'loss', c: float = 1e4,
      beta: float = 0.7, alpha: float = 0.7, epsilon: float = 0.01,
      initial: float = 1e5):
    errors.check_least(0, errors.named(
        'sampler.curious', c=c, alpha=alpha))
    errors.check_above(0, errors.named(
        'sampler.curious', epsilon=epsilon, initial=initial))
    errors.check_within(0, 1, errors.named('sampler.curious', beta=beta))
    self._items = sum_tree.Items(capacity)
    self._visits = np.zeros(capacity, np.int32)
    self._signal = signal
    self._c = c
    self._beta = beta
    self._alpha = alpha
    self._epsilon = epsilon
    self._initial = initial

  def add(self, items):
    self._items.add(items, self._initial)
    self._visits[items % self._items.capacity] = 0

  def remove(self, items):
    self._items.remove(items)

  def sample(self, count, rng):
    return self._items.sample(count, rng)

  def update(self, items, signals, ends):
    del items
    loss = np.abs(sum_tree.signal(signals, self._signal))
    known = (ends >= 0) & np.isfinite(loss)
    seen, loss = ends[known], loss[known]
    slots = seen % self._items.capacity
    np.add.at(self._visits, slots, 1)
    self._items.set(seen, (
        self._c * self._beta ** self._visits[slots]
        + (loss + self._epsilon) ** self._alpha))

  def state(self):
    items = np.arange(self._items.first, self._items.next)
    return {
        'item/priority': self._items.weights(),
        'item/visits': self._visits[items % self._items.capacity]}

  def load(self, state, items):
    if len(items):
      self._items.add(items, state['item/priority'])
      self._visits[items % self._items.capacity] = state['item/visits']
