"""Running percentiles."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry


@registry.register('normalizer', 'percentile')
class PercentileNormalizer(tf.Module, interfaces.Normalizer):
  """Moving averages of two percentiles of the values of all replicas."""

  def __init__(
      self, *, rate: float = 0.01, low: float = 5.0, high: float = 95.0,
      limit: float = 1.0):
    super().__init__(name='percentile')
    self.rate, self.limit = rate, limit
    self.percentiles = (low, high)

  def build(self):
    make = lambda name: tf.Variable(
        0.0, trainable=False, name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    self.low, self.high = make('low'), make('high')

  def update(self, values):
    context = tf.distribute.get_replica_context()
    values = tf.reshape(tf.cast(values, tf.float32), [-1])
    if context is not None and context.num_replicas_in_sync > 1:
      values = context.all_gather(values, axis=0)
    values = tf.sort(values)
    count = tf.cast(tf.shape(values)[0], tf.float32)
    for variable, percent in zip(
        (self.low, self.high), self.percentiles, strict=True):
      position = (count - 1.0) * percent / 100.0
      below = tf.floor(position)
      left = tf.gather(values, tf.cast(below, tf.int32))
      right = tf.gather(values, tf.cast(tf.math.ceil(position), tf.int32))
      value = left + (right - left) * (position - below)
      variable.assign((1.0 - self.rate) * variable + self.rate * value)
    return self.read()

  def read(self):
    low, high = tf.identity(self.low), tf.identity(self.high)
    return low, tf.maximum(self.limit, high - low)
