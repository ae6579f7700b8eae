"""Moving averages that are the same on every replica."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces


class RunningNormalizer(tf.Module, interfaces.Normalizer):
  """Keeps moving averages of some statistics of a batch.

    average <- (1 - rate) average + rate statistic,    starting at 0

  with debias divided by 1 - (1 - rate)^t, that is, as if it started at the
  first statistic. A subclass names its statistics in `STATISTICS`, computes
  them in `statistics` and reads offset and scale off the averages in
  `offset_and_scale`.

  Statistics are those of the values of all replicas together, and every
  replica assigns the same number; `update` must therefore be called by all
  replicas, and with more than one not in a `tf.cond` or a nested
  `tf.function`.

  Args:
    name: of the module.
    rate: share of a new statistic, in (0, 1].
    limit: the least scale.
    debias: whether to correct for the start at 0.
  """

  STATISTICS: tuple[str, ...] = ()

  def __init__(self, *, name: str, rate: float, limit: float, debias: bool):
    rates = errors.named(f'normalizer.{name}', rate=rate)
    errors.check_above(0, rates)
    errors.check_within(0, 1, rates)
    super().__init__(name=name)
    self.rate = rate
    self.limit = limit
    self.debias = debias
    self.correction = None

  def build(self):
    for name in self.STATISTICS:
      setattr(self, name, _average(name))
    if self.debias:
      self.correction = _average('correction')

  def update(self, values):
    values = tf.reshape(tf.cast(values, tf.float32), [-1])
    news = self.statistics(tf.stop_gradient(values))
    variables = self._averages()
    if self.debias:
      variables, news = [*variables, self.correction], [*news, 1.0]
    for variable, new in zip(variables, news, strict=True):
      variable.assign((1.0 - self.rate) * variable + self.rate * new)
    return self.read()

  def read(self):
    averages = [tf.identity(x) for x in self._averages()]
    if self.debias:
      # At least the first update's correction, for a read before it.
      correction = tf.maximum(self.rate, self.correction)
      averages = [x / correction for x in averages]
    offset, scale = self.offset_and_scale(*averages)
    return offset, tf.maximum(self.limit, scale)

  def _averages(self):
    """Returns the variables of the statistics, in their order."""
    if not all(hasattr(self, name) for name in self.STATISTICS):
      raise errors.UserError(
          f'{self.name} is not built; call its build() first')
    return [getattr(self, name) for name in self.STATISTICS]

  def statistics(self, values):
    """Returns the statistics of all replicas' values, [] float32 each.

    Args:
      values: [N] float32 of this replica.
    """
    raise NotImplementedError

  def offset_and_scale(self, *averages):
    """Returns (offset, scale without its limit), [] float32 each."""
    raise NotImplementedError


def _average(name):
  """Makes the variable of a moving average."""
  return tf.Variable(
      0.0, trainable=False, name=name,
      synchronization=tf.VariableSynchronization.ON_WRITE,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
