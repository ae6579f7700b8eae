"""Statistics over the batch of all replicas."""

import tensorflow as tf


def global_mean(values):
  """Returns the mean of values [...] over all replicas, scalar.

  Replicas hold equally many values. With several replicas it must be called by
  all of them, and not in a `tf.cond` or a nested `tf.function`.
  """
  mean = tf.reduce_mean(values)
  context = tf.distribute.get_replica_context()
  if context is not None and context.num_replicas_in_sync > 1:
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, mean)
  return mean
