"""Distributions over numbers: squared errors, bounded normal, Bernoulli."""

import math

import tensorflow as tf

from dv3.distributions import base
from dv3.nets import linear
from dv3.nets import symlog as symlog_lib


class SquaredError(base.Distribution):
  """A unit Gaussian without its constants: log_prob = -sum((mean - x)^2).

  No factor 1/2 and no normaliser, as in the reference.

  Args:
    mean: [*batch, *event].
    event_rank: how many trailing axes the sum covers.
    symlog: whether targets pass through symlog; the mean stays in symlog
      space then.

  Source: Hafner et al. 2023, eq. 1; danijar/dreamerv3 e3f0224 `MSE`.
  """

  def __init__(self, mean, event_rank: int, symlog: bool = False):
    self.loc = tf.cast(mean, tf.float32)
    self.symlog = symlog
    self._axes = list(range(-event_rank, 0))
    rank = self.loc.shape.rank
    super().__init__(
        self.loc, event_rank, self.loc.shape[rank - event_rank:],
        'SquaredError')

  def _log_prob(self, value):
    value = tf.cast(value, tf.float32)
    if self.symlog:
      value = symlog_lib.symlog(value)
    error = tf.square(self.loc - tf.stop_gradient(value))
    return -tf.reduce_sum(error, self._axes)

  def _mean(self):
    return self.loc

  def _mode(self):
    return self.loc

  def prediction(self):
    """Returns the mean in the units of the data (symexp where symlog)."""
    return symlog_lib.symexp(self.loc) if self.symlog else self.loc


class Image(SquaredError):
  """A squared error for images: the mean is in [0, 1], targets are uint8.

  Args:
    mean: [*batch, Y, X, ch] or [*batch, Y, X] in [0, 1].
    event_rank: 3, or 2 for images without a channel axis.
  """

  def __init__(self, mean, event_rank: int = 3):
    super().__init__(mean, event_rank)

  def _log_prob(self, value):
    return super()._log_prob(tf.cast(value, tf.float32) / 255.0)


class BoundedNormal(base.Distribution):
  """A normal with mean in (-1, 1) and a bounded standard deviation.

    mean = tanh(raw_mean)
    stddev = (max_stddev - min_stddev) sigmoid(raw_stddev + 2) + min_stddev

  The sample itself is unbounded: no change of variables.

  Args:
    raw_mean: [*batch, A].
    raw_stddev: [*batch, A].
    min_stddev: lower bound, in normalised action units.
    max_stddev: upper bound.

  Source: danijar/dreamerv3 e3f0224, output `bounded_normal`.
  """

  def __init__(self, raw_mean, raw_stddev, min_stddev=0.1, max_stddev=1.0):
    self.loc = tf.tanh(tf.cast(raw_mean, tf.float32))
    spread = max_stddev - min_stddev
    self.scale = spread * tf.sigmoid(
        tf.cast(raw_stddev, tf.float32) + 2.0) + min_stddev
    super().__init__(self.loc, 1, self.loc.shape[-1:], 'BoundedNormal')

  def _log_prob(self, value):
    deviation = (value - self.loc) / self.scale
    return tf.reduce_sum(
        -0.5 * tf.square(deviation) - tf.math.log(self.scale)
        - 0.5 * math.log(2 * math.pi), -1)

  def _entropy(self):
    return tf.reduce_sum(
        0.5 * tf.math.log(2 * math.pi * tf.square(self.scale)) + 0.5, -1)

  def _mean(self):
    return self.loc

  def _mode(self):
    return self.loc

  def draw(self, rng):
    """Returns mean + stddev * normal, with the gradient of both."""
    noise = rng.normal(linear.dynamic_shape(self.loc))
    return self.loc + self.scale * noise


class Binary(base.Distribution):
  """A Bernoulli that accepts soft targets in [0, 1].

    log_prob(t) = t ln sigmoid(logit) + (1 - t) ln sigmoid(-logit)

  Args:
    logit: [*batch].
  """

  def __init__(self, logit):
    self.logit = tf.cast(logit, tf.float32)
    super().__init__(self.logit, 0, [], 'Binary')

  def _log_prob(self, value):
    value = tf.cast(value, tf.float32)
    return (
        value * tf.math.log_sigmoid(self.logit)
        + (1.0 - value) * tf.math.log_sigmoid(-self.logit))

  def _mean(self):
    return tf.sigmoid(self.logit)

  def _mode(self):
    return tf.cast(self.logit > 0, tf.float32)

  def _entropy(self):
    probability = tf.sigmoid(self.logit)
    return -(
        probability * tf.math.log_sigmoid(self.logit)
        + (1.0 - probability) * tf.math.log_sigmoid(-self.logit))

  def draw(self, rng):
    """Returns 0 or 1 as float32."""
    uniform = rng.uniform(linear.dynamic_shape(self.logit))
    return tf.cast(uniform < tf.sigmoid(self.logit), tf.float32)
