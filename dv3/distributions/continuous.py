"""Distributions over numbers: squared errors, normals, Bernoulli."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from dv3.distributions import base
from dv3.nets import fusion
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
    tolerance: squares below it count as 0; 1e-8 in the 2023 code, on vectors.

  Source: Hafner et al. 2023, eq. 1; danijar/dreamerv3 e3f0224 `MSE`.
  """

  def __init__(
      self, mean, event_rank: int, symlog: bool = False,
      tolerance: float = 0.0):
    self.loc = tf.cast(mean, tf.float32)
    self.symlog = symlog
    self.tolerance = tolerance
    self._axes = list(range(-event_rank, 0))
    rank = self.loc.shape.rank
    super().__init__(
        self.loc, event_rank, self.loc.shape[rank - event_rank:],
        'SquaredError')
    self._remember(
        'mean', mean=mean, event_rank=event_rank, symlog=symlog,
        tolerance=tolerance)

  def _log_prob(self, value):
    return fusion.fused(self._log_likelihood, self.loc, value)

  def _log_likelihood(self, mean, value):
    """Returns the log-likelihood of a value as a function of the mean."""
    value = tf.cast(value, tf.float32)
    if self.symlog:
      value = symlog_lib.symlog(value)
    error = tf.square(mean - tf.stop_gradient(value))
    if self.tolerance:
      error = tf.where(error < self.tolerance, 0.0, error)
    return -tf.reduce_sum(error, self._axes)

  def _mean(self):
    return self.loc

  def _mode(self):
    return self.loc

  def _entropy(self):
    raise NotImplementedError(
        f'{self.name} is a squared error, no density whose integral is 1, and '
        'has no entropy; UnitNormal has one')

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
    self._remember('mean', mean=mean, event_rank=event_rank)

  def _log_likelihood(self, mean, value):
    return super()._log_likelihood(mean, tf.cast(value, tf.float32) / 255.0)


class UnitNormal(base.Distribution):
  """A normal with standard deviation 1, with its constants.

    log_prob(x) = sum(-(mean - x)^2 / 2 - ln(2 pi) / 2)
    entropy = n ln(2 pi e) / 2 for n numbers,   KL = sum((mean - mean')^2 / 2)

  Args:
    mean: [*batch, *event].
    event_rank: how many trailing axes the sum covers.

  Source: Hafner et al. 2021 (DreamerV2), eq. 1.
  """

  def __init__(self, mean, event_rank: int):
    self.loc = tf.cast(mean, tf.float32)
    self._axes = list(range(-event_rank, 0))
    rank = self.loc.shape.rank
    super().__init__(
        self.loc, event_rank, self.loc.shape[rank - event_rank:],
        'UnitNormal')
    self._remember('mean', mean=mean, event_rank=event_rank)

  def _log_prob(self, value):
    return fusion.fused(self._log_likelihood, self.loc, value)

  def _log_likelihood(self, mean, value):
    """Returns the log-likelihood of a value as a function of the mean."""
    error = tf.square(mean - tf.cast(value, tf.float32))
    return tf.reduce_sum(
        -0.5 * error - 0.5 * math.log(2 * math.pi), self._axes)

  def _mean(self):
    return self.loc

  def _mode(self):
    return self.loc

  def _entropy(self):
    each = tf.fill(tf.shape(self.loc), 0.5 * math.log(2 * math.pi * math.e))
    return tf.reduce_sum(each, self._axes)

  def prediction(self):
    """Returns the mean, which is in the units of the data."""
    return self.loc


class UnitNormalImage(UnitNormal):
  """A unit normal over image / 255 - 0.5, for uint8 targets.

  Args:
    mean: [*batch, Y, X, ch] or [*batch, Y, X], about -0.5 to 0.5.
    event_rank: 3, or 2 for images without a channel axis.
  """

  def __init__(self, mean, event_rank: int = 3):
    super().__init__(mean, event_rank)

  def _log_likelihood(self, mean, value):
    return super()._log_likelihood(
        mean, tf.cast(value, tf.float32) / 255.0 - 0.5)

  def prediction(self):
    """Returns the mean image in [0, 1]."""
    return tf.clip_by_value(self.loc + 0.5, 0.0, 1.0)


class TruncatedNormal(base.Distribution):
  """A normal cut at -1 and 1.

    loc = tanh(raw_mean),  scale = 2 sigmoid(raw_stddev / 2) + min_stddev
    p(x) = N(x; loc, scale) / (Phi(b) - Phi(a)),
           a = (-1 - loc) / scale,  b = (1 - loc) / scale
    entropy = ln(sqrt(2 pi e) scale Z) + (a phi(a) - b phi(b)) / (2 Z)

  Samples invert the cumulative distribution, with the gradient of both
  parameters, and stay within 1 - 1e-6.

  Args:
    raw_mean: [*batch, A].
    raw_stddev: [*batch, A].
    min_stddev: lower bound of the scale, in normalised action units.

  Source: danijar/dreamerv2 0216d33, `trunc_normal`; the entropy is that of
    the truncated normal (Johnson et al. 1994, section 13.10).
  """

  def __init__(self, raw_mean, raw_stddev, min_stddev=0.1):
    self.loc = tf.tanh(tf.cast(raw_mean, tf.float32))
    self.scale = 2.0 * tf.sigmoid(
        tf.cast(raw_stddev, tf.float32) / 2.0) + min_stddev
    self._low = (-1.0 - self.loc) / self.scale
    self._high = (1.0 - self.loc) / self.scale
    self._below = _normal_cdf(self._low)
    self._mass = _normal_cdf(self._high) - self._below
    super().__init__(self.loc, 1, self.loc.shape[-1:], 'TruncatedNormal')
    self._remember(
        'raw_mean', 'raw_stddev', raw_mean=raw_mean, raw_stddev=raw_stddev,
        min_stddev=min_stddev)

  def _log_prob(self, value):
    deviation = (value - self.loc) / self.scale
    inside = (value >= -1.0) & (value <= 1.0)
    log_prob = (
        -0.5 * tf.square(deviation) - 0.5 * math.log(2 * math.pi)
        - tf.math.log(self.scale * self._mass))
    return tf.reduce_sum(tf.where(inside, log_prob, -math.inf), -1)

  def _entropy(self):
    return tf.reduce_sum(
        tf.math.log(math.sqrt(2 * math.pi * math.e) * self.scale * self._mass)
        + self._edges() / 2.0, -1)

  def _mean(self):
    return self.loc + self.scale * self._shift()

  def _variance(self):
    return tf.square(self.scale) * (
        1.0 + self._edges() - tf.square(self._shift()))

  def _shift(self):
    """Returns how many scales the mean is off `loc`, [*batch, A]."""
    drop = _normal_density(self._low) - _normal_density(self._high)
    return drop / self._mass

  def _edges(self):
    """Returns (a phi(a) - b phi(b)) / Z, [*batch, A]."""
    edges = (
        self._low * _normal_density(self._low)
        - self._high * _normal_density(self._high))
    return edges / self._mass

  def _mode(self):
    return self.loc

  def draw(self, rng):
    """Returns loc + scale * ndtri(...), in [-1, 1]."""
    uniform = rng.uniform(linear.dynamic_shape(self.loc))
    # Rounding must not reach 1, whose quantile is infinite.
    quantile = tf.minimum(
        self._below + uniform * self._mass, 1.0 - 2.0 ** -24)
    value = self.loc + self.scale * tf.math.ndtri(quantile)
    # Rounding may leave the interval; the gradient goes on as if it had not.
    inside = tf.clip_by_value(value, -1.0 + 1e-6, 1.0 - 1e-6)
    return value + tf.stop_gradient(inside - value)


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
    self._remember(
        'raw_mean', 'raw_stddev', raw_mean=raw_mean, raw_stddev=raw_stddev,
        min_stddev=min_stddev, max_stddev=max_stddev)

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
    self._remember('logit', logit=logit)

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


def _normal_cdf(x):
  return 0.5 * tf.math.erfc(-x * math.sqrt(0.5))


def _normal_density(x):
  return tf.exp(-0.5 * tf.square(x)) / math.sqrt(2 * math.pi)


@tfp.distributions.RegisterKL(UnitNormal, UnitNormal)
def _kl_unit(p, q, name=None):
  """KL(p || q) = sum((mean_p - mean_q)^2 / 2), [*batch]."""
  del name
  return 0.5 * tf.reduce_sum(tf.square(p.loc - q.loc), p._axes)


@tfp.distributions.RegisterKL(BoundedNormal, BoundedNormal)
def _kl_bounded(p, q, name=None):
  """KL(p || q) of normals (m, s), summed over the numbers, [*batch].

    sum(ln(s_q / s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2)
  """
  del name
  square = tf.square(p.scale) + tf.square(p.loc - q.loc)
  return tf.reduce_sum(
      tf.math.log(q.scale / p.scale)
      + square / (2.0 * tf.square(q.scale)) - 0.5, -1)


@tfp.distributions.RegisterKL(TruncatedNormal, TruncatedNormal)
def _kl_truncated(p, q, name=None):
  """KL(p || q) = -entropy_p - E_p[ln q], which is quadratic in x, [*batch]."""
  del name
  square = p.variance() + tf.square(p.mean() - q.loc)
  expected = tf.reduce_sum(
      -square / (2.0 * tf.square(q.scale)) - 0.5 * math.log(2 * math.pi)
      - tf.math.log(q.scale * q._mass), -1)
  return -p.entropy() - expected


@tfp.distributions.RegisterKL(Binary, Binary)
def _kl_binary(p, q, name=None):
  """KL(p || q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)), [*batch]."""
  del name
  log = tf.math.log_sigmoid
  return (
      tf.sigmoid(p.logit) * (log(p.logit) - log(q.logit))
      + tf.sigmoid(-p.logit) * (log(-p.logit) - log(-q.logit)))
