"""Categoricals over class indices, for reconstructed discrete entries."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dv3.distributions import base
from dv3.nets import linear


class Indices(base.Distribution):
  """Independent categoricals whose events are class indices.

    log_prob(index) = sum over elements of log_softmax(logits)[index]

  It is NaN for an index that there is not.

  Args:
    logits: [*batch, sum(classes)]; computed in float32.
    shape: the event's shape.
    classes: number of classes of each element, row-major.
  """

  def __init__(self, logits, shape, classes):
    logits = tf.cast(logits, tf.float32)
    self.log_probs = [
        tf.nn.log_softmax(x) for x in tf.split(logits, list(classes), -1)]
    self._shape = tuple(shape)
    super().__init__(logits, 1, shape, 'Indices')
    self._remember('logits', logits=logits, shape=shape, classes=classes)

  def _log_prob(self, value):
    lead = linear.dynamic_shape(value)[
        :value.shape.rank - len(self._shape)]
    value = tf.reshape(tf.cast(value, tf.int32), [*lead, len(self.log_probs)])
    known = tf.ones([], tf.bool)
    for i, x in enumerate(self.log_probs):
      known &= (value[..., i] >= 0) & (value[..., i] < x.shape[-1])
    found = tf.add_n([
        tf.reduce_sum(x * tf.one_hot(value[..., i], x.shape[-1]), -1)
        for i, x in enumerate(self.log_probs)])
    return tf.where(known, found, np.nan)

  def _mode(self):
    index = tf.stack([tf.argmax(x, -1) for x in self.log_probs], -1)
    lead = linear.dynamic_shape(index)[:-1]
    return tf.reshape(tf.cast(index, tf.float32), [*lead, *self._shape])

  def _entropy(self):
    return -tf.add_n([
        tf.reduce_sum(tf.exp(x) * x, -1) for x in self.log_probs])

  def prediction(self):
    """Returns the likeliest indices as float32."""
    return self.mode()


@tfp.distributions.RegisterKL(Indices, Indices)
def _kl_indices(p, q, name=None):
  """KL(p || q) = sum over elements and classes of p (ln p - ln q), [*batch]."""
  del name
  return tf.add_n([
      tf.reduce_sum(tf.exp(x) * (x - y), -1)
      for x, y in zip(p.log_probs, q.log_probs, strict=True)])
