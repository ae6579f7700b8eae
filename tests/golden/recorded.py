"""An rng that returns recorded samples, as the golden tests force them."""

import tensorflow as tf


class Recorded:
  """Replays samples by the path of uses that leads to a draw.

  Args:
    samples: {path: [rows, steps, ...]}, a path being the folds joined by '/'.
  """

  def __init__(self, samples, path=(), step=None):
    self._samples = samples
    self._path = path
    self._step = step

  def fold(self, use):
    return Recorded(self._samples, (*self._path, str(use)), self._step)

  def at(self, step):
    return Recorded(self._samples, self._path, step)

  def rows(self, per_example):
    del per_example
    return self

  def sample(self, distribution):
    recorded = self._samples['/'.join(self._path)]
    value = tf.gather(tf.constant(recorded), self._step, axis=1)
    value = tf.cast(value, tf.float32)
    event = distribution.event_shape
    return tf.reshape(value, [recorded.shape[0], *event])
