"""Statistics over the batch of all replicas."""

import contextlib
import contextvars

import tensorflow as tf

from dv3 import errors

_ISOLATED = contextvars.ContextVar('dv3_isolated', default=False)


@contextlib.contextmanager
def isolated():
  """In this context, for what XLA compiles, `replicas` must find only one."""
  token = _ISOLATED.set(True)
  try:
    yield
  finally:
    _ISOLATED.reset(token)


def replicas():
  """Returns the replica context if there are several replicas, else None.

  Raises:
    UserError: within `isolated`, where collectives cannot be.
  """
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  if _ISOLATED.get():
    raise errors.UserError(
        'a loss talks to other replicas inside of what XLA compiles; set its '
        "across_replicas to 'throughout', or move that into its statistics()")
  return context


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
  if context := replicas():
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, mean)
  return mean
