"""Statistics over the batch of all replicas."""

import tensorflow as tf


def global_mean(values, axis=None):
  """Returns the mean of values [...] over all replicas.

  Replicas hold equally many values. With several replicas it must be called by
  all of them, and not in a `tf.cond` or a nested `tf.function`. Its gradient is
  right where the losses of all replicas are scaled by 1 / replicas and summed.

  Args:
    values: [...], of this replica.
    axis: what to average over besides the replicas; everything by default.
  """
  mean = tf.reduce_mean(values, axis)
  context = tf.distribute.get_replica_context()
  if context is not None and context.num_replicas_in_sync > 1:
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, mean)
  return mean
