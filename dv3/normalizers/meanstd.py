"""Running mean and standard deviation."""

import tensorflow as tf

from dv3 import registry
from dv3.normalizers import running
from dv3.normalizers import statistics


@registry.register('normalizer', 'meanstd')
class MeanStdNormalizer(running.RunningNormalizer):
  """Moving averages of mean and mean square of the values of all replicas.

    mean   <- (1 - rate) mean   + rate average(values)
    square <- (1 - rate) square + rate average(values^2)
    offset = mean,    scale = max(limit, sqrt(max(0, square - mean^2)))

  Values [...] of any shape; offset and scale are [] float32 in their units.

  Args:
    rate: share of a new statistic, in (0, 1].
    limit: the least scale, in the units of the values.
    debias: whether to correct for the start at 0.

  Source: danijar/dreamerv3 e3f0224.
  """

  STATISTICS = ('mean', 'square')

  def __init__(
      self, *, rate: float = 0.01, limit: float = 1e-8, debias: bool = True):
    super().__init__(name='meanstd', rate=rate, limit=limit, debias=debias)

  def statistics(self, values):
    results = tf.stack(
        [tf.reduce_mean(values), tf.reduce_mean(tf.square(values))])
    if context := statistics.replicas():
      # Replicas hold equally many values.
      results = context.all_reduce(tf.distribute.ReduceOp.MEAN, results)
    return tf.unstack(results)

  def offset_and_scale(self, mean, square):
    return mean, tf.sqrt(tf.maximum(0.0, square - tf.square(mean)))
