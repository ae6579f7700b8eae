"""Running percentiles."""

import tensorflow as tf

from dv3 import errors
from dv3 import registry
from dv3.normalizers import running
from dv3.normalizers import statistics


@registry.register('normalizer', 'percentile')
class PercentileNormalizer(running.RunningNormalizer):
  """Moving averages of two percentiles of the values of all replicas.

    low  <- (1 - rate) low  + rate percentile(values, low)
    high <- (1 - rate) high + rate percentile(values, high)
    offset = low,    scale = max(limit, high - low)             [] each

  The percentiles are those of the whole batch, gathered from all replicas,
  with linear interpolation between neighbours. They are taken in before they
  are used; without debias the averages start at 0, so that the scale stays at
  its limit for a while, as published.

  Args:
    rate: share of a new percentile, in (0, 1].
    low: the lower percentile, in [0, 100].
    high: the upper percentile, in [0, 100].
    limit: the least scale, in the units of the values.
    debias: whether to correct for the start at 0.

  Source: Hafner et al., Nature 2025, eq. 7; danijar/dreamerv3 e3f0224.
  """

  STATISTICS = ('low', 'high')

  def __init__(
      self, *, rate: float = 0.01, low: float = 5.0, high: float = 95.0,
      limit: float = 1.0, debias: bool = False):
    errors.check_within(0, 100, errors.named(
        'normalizer.percentile', low=low, high=high))
    super().__init__(name='percentile', rate=rate, limit=limit, debias=debias)
    self.percentiles = (low, high)

  def statistics(self, values):
    if context := statistics.replicas():
      # Means of the replicas' percentiles would not be the batch's.
      values = context.all_gather(values, axis=0)
    # Two partial sorts by top_k are no faster under XLA and save 1 ms without.
    values = tf.sort(values)
    last = tf.size(values) - 1
    results = []
    for percentile in self.percentiles:
      position = tf.cast(last, tf.float64) * (percentile / 100.0)
      below = tf.cast(tf.floor(position), tf.int32)
      share = tf.cast(position - tf.floor(position), tf.float32)
      left = tf.gather(values, below)
      right = tf.gather(values, tf.minimum(below + 1, last))
      results.append(left + (right - left) * share)
    return results

  def offset_and_scale(self, low, high):
    return low, high - low
