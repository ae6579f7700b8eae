"""A slowly moving copy of a part."""

import tensorflow as tf


class SlowCopy(tf.Module):
  """Keeps `slow` an exponential moving average of `fast`.

    slow <- rate fast + (1 - rate) slow, every `every`-th update

  Args:
    fast: a part that trains.
    slow: a part of the same class, built from the same specs.
    rate: share of the new weights in (0, 1]; 1 copies.
    every: updates between two moves.
  """

  def __init__(self, fast, slow, *, rate: float = 0.02, every: int = 1):
    super().__init__(name='slow_copy')
    self._pair = (fast, slow)
    self.rate = rate
    self.every = every
    self.count = None

  def build(self):
    """Copies the weights."""
    for fast, slow in self._variables():
      slow.assign(fast)
    self.count = tf.Variable(
        0, dtype=tf.int64, trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

  def update(self):
    """Moves the copy; call it after each optimizer step."""
    moves = tf.equal(self.count % self.every, 0)
    rate = tf.where(moves, self.rate, 0.0)
    for fast, slow in self._variables():
      slow.assign(rate * fast + (1.0 - rate) * slow)
    self.count.assign_add(1)

  def _variables(self):
    fast, slow = self._pair
    return list(zip(fast.variables, slow.variables, strict=True))
