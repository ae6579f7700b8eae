"""A slowly moving copy of a part."""

import re
from typing import Any

import tensorflow as tf

from dv3 import errors

_NUMBER = re.compile(r'_\d+(?=/|:|$)')
"""What Keras adds to a name to tell layers apart."""


class SlowCopy(tf.Module):
  """Keeps `slow` an exponential moving average of `fast`.

    slow <- rate fast + (1 - rate) slow

  after each optimizer step; with `every` only when the number of steps before
  is a multiple of it, so at the first one, and then at every `every`-th.

    critic, slow_critic = factory(**specs), factory(**specs)
    slow_copy = SlowCopy(critic, slow_critic)
    critic.build(); slow_critic.build(); slow_copy.build()     # slow = fast
    ...
    optimizer.apply_gradients(...); slow_copy.update()

  Each replica moves its own copy, by the same numbers.

  Args:
    fast: a part that trains.
    slow: a part of the same class, built from the same specs, which no
      optimizer may train.
    rate: share of the new weights, in (0, 1]; 1 copies.
    every: optimizer steps between two moves.

  Source: danijar/dreamerv3 e3f0224.
  """

  def __init__(self, fast, slow, *, rate: float = 0.02, every: int = 1):
    super().__init__(name='slow_copy')
    self.fast = fast
    self.slow = slow
    self.rate = rate
    self.every = every
    self.count: Any = None

  def build(self):
    """Copies the weights; both parts must be built.

    Raises:
      ValueError: if the parts differ.
    """
    for fast, slow in self._variables():
      slow.assign(fast)
    self.count = tf.Variable(
        0, dtype=tf.int64, trainable=False, name='count',
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

  def update(self):
    """Moves the copy; call it after each optimizer step."""
    if self.count is None:
      raise errors.UserError('slow_copy is not built; call its build() first')
    if self.every == 1:
      self._move()
    else:
      due = tf.equal(self.count % self.every, 0)
      tf.cond(due, self._move, lambda: None)
    self.count.assign_add(1)

  def _move(self):
    for fast, slow in self._variables():
      slow.assign(
          fast if self.rate == 1.0
          else self.rate * fast + (1.0 - self.rate) * slow)

  def _variables(self):
    """Returns the (fast, slow) variables, which correspond."""
    fast, slow = self.fast, self.slow
    describe = lambda part: [
        (_NUMBER.sub('', v.name), tuple(v.shape), v.dtype.name)
        for v in part.variables]
    if type(fast) is not type(slow) or describe(fast) != describe(slow):
      raise ValueError(
          f'a slow copy needs two parts of one class and the same specs, but '
          f'{type(fast).__name__} has {describe(fast)} and '
          f'{type(slow).__name__} has {describe(slow)}')
    if not fast.variables:
      raise ValueError('a slow copy needs parts that are built')
    return list(zip(fast.variables, slow.variables, strict=True))
