"""The two-hot distribution over symexp-spaced bins."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dv3.distributions import base
from dv3.nets import symlog as symlog_lib
from dv3.nets import xla


def symexp_bins(count: int) -> np.ndarray:
  """Returns [count] float32 bins, symexp-spaced from -e^20 + 1 to e^20 - 1.

  The left half is symexp(linspace(-20, 0)), the right half its mirror image;
  an even count has the bin 0 twice.

  Source: Hafner et al., Nature 2025, eq. 10; danijar/dreamerv3 e3f0224.
  """
  half = np.linspace(-20.0, 0.0, (count + 1) // 2, dtype=np.float32)
  left = -np.expm1(-half.astype(np.float64))
  right = -left[::-1]
  return np.concatenate(
      [left, right[1:] if count % 2 else right]).astype(np.float32)


class TwoHot(base.Distribution):
  """A categorical over M bins in value space, for scalars.

  A target between two bins is encoded as weights on the two, a target outside
  as the end bin. `log_prob(target)` is the cross-entropy's negative,
  `mean` is sum(softmax(logits) * bins), summed symmetrically so that equal
  probabilities give exactly 0. Entropy and KL are those of the bins, in nats.

  Args:
    logits: [*batch, M]; computed in float32.
    bins: [M] float32, ascending and antisymmetric, in target units.

  Source: Hafner et al., Nature 2025, eq. 8 to 11.
  """

  def __init__(self, logits, bins):
    self.logits = tf.cast(logits, tf.float32)
    self.bins = np.asarray(bins, np.float32)
    if self.logits.shape[-1] != len(self.bins):
      raise ValueError(
          f'{self.logits.shape[-1]} logits for {len(self.bins)} bins')
    # What both the mean and log-probabilities need.
    self._largest = tf.stop_gradient(tf.reduce_max(self.logits, -1))
    self._exponentials = tf.exp(self.logits - self._largest[..., None])
    self._total = tf.reduce_sum(self._exponentials, -1)
    super().__init__(self.logits, 1, [], 'TwoHot')
    self._remember('logits', logits=logits, bins=bins)

  def encode(self, target):
    """Returns the weights [..., M] of a target [...] in the bins' space."""
    low, high, weight_low, weight_high = self._neighbours(target)
    count = len(self.bins)
    return (
        tf.one_hot(low, count) * weight_low[..., None]
        + tf.one_hot(high, count) * weight_high[..., None])

  def _log_prob(self, value):
    value = tf.cast(value, tf.float32)
    logits, logsumexp = self.logits, self._largest + tf.math.log(self._total)
    shape, batch = tf.shape(logsumexp), logsumexp.shape
    whole = tf.broadcast_static_shape(value.shape, batch)
    if not whole.is_compatible_with(batch):  # Several samples of each.
      shape = tf.broadcast_dynamic_shape(tf.shape(value), shape)
      logits = tf.broadcast_to(
          logits, tf.concat([shape, [len(self.bins)]], 0))
      logsumexp = tf.broadcast_to(logsumexp, shape)
    stop = tf.stop_gradient
    return _cross_entropy(
        logits, stop(logsumexp),
        *map(stop, self._neighbours(tf.broadcast_to(value, shape))))

  def _mean(self):
    values = self._exponentials
    half = len(self.bins) // 2
    # Pairs first: a plain sum over 255 equal probabilities gives 1, not 0.
    pairs = values[..., -half:] - values[..., :half][..., ::-1]
    bins = tf.constant(self.bins[-half:])
    if xla.for_accelerator():  # Products may be TF32 there.
      return tf.reduce_sum(pairs * bins, -1) / self._total
    if pairs.shape.rank == 1:  # There is no product of two vectors.
      return tf.linalg.matvec(pairs[None], bins)[0] / self._total
    return tf.linalg.matvec(pairs, bins) / self._total

  def _mode(self):
    return self._mean()

  def _entropy(self):
    log_probs = tf.nn.log_softmax(self.logits)
    return -tf.reduce_sum(tf.exp(log_probs) * log_probs, -1)

  def _neighbours(self, target):
    """Returns bin indices and weights of a target: low, high, each [...]."""
    bins = tf.constant(self.bins)
    below = _count_below(bins, target)
    last = len(self.bins) - 1
    low = tf.clip_by_value(below - 1, 0, last)
    high = tf.clip_by_value(below, 0, last)
    distance_low = tf.abs(tf.gather(bins, low) - target)
    distance_high = tf.abs(tf.gather(bins, high) - target)
    outside = low == high
    distance_low = tf.where(outside, 1.0, distance_low)
    distance_high = tf.where(outside, 1.0, distance_high)
    # A target that is not finite must not pass for one beyond the end bins.
    total = tf.where(
        tf.math.is_finite(target), distance_low + distance_high, np.nan)
    return low, high, distance_high / total, distance_low / total


@tf.custom_gradient
def _cross_entropy(logits, logsumexp, low, high, weight_low, weight_high):
  """Returns weight_low logits[low] + weight_high logits[high] - logsumexp.

  For logits [..., M] and the rest [...]. Reads two of the M logits, and its
  gradient, (two-hot - softmax), is made in one pass.
  """
  count = logits.shape[-1]
  def gradient(dy):
    bins = tf.range(count)
    hot = lambda index, weight: tf.where(
        bins == index[..., None], weight[..., None], 0.0)
    # Weights of a target beyond the end bins are halves of the same bin.
    target = hot(low, weight_low) + hot(high, weight_high)
    softmax = tf.exp(logits - logsumexp[..., None])
    return dy[..., None] * (target - softmax), None, None, None, None, None
  flat = tf.reshape(logits, [-1])
  start = tf.reshape(
      tf.range(0, tf.size(flat), count), tf.shape(low))
  pick = lambda index: tf.gather(flat, start + index)
  result = weight_low * pick(low) + weight_high * pick(high) - logsumexp
  return result, gradient


def _count_below(bins, target):
  """Returns how many of the ascending bins [M] are at most target [...].

  By bisection in about log2(M) rounds: `tf.searchsorted` compares with every
  bin under XLA.
  """
  count = tf.zeros_like(target, tf.int32)
  size = 1 << (bins.shape[0].bit_length() - 1)
  while size:
    further = count + size
    here = (further <= bins.shape[0]) & (
        tf.gather(bins, tf.minimum(further, bins.shape[0]) - 1) <= target)
    count = tf.where(here, further, count)
    size //= 2
  return count


class SymlogTwoHot(TwoHot):
  """A categorical over M uniform bins in symlog space, for scalars.

    log_prob(x) = two-hot cross-entropy of symlog(x),  bins in [-20, 20]
    mean = symexp(sum(softmax(logits) * bins))

  The mean is taken before symexp, where the 2025 form takes it after.

  Args:
    logits: [*batch, M]; computed in float32.

  Source: Hafner et al. 2023 (arXiv v1), eq. 8 to 10; PyPI dreamerv3 1.5.0,
    `symlog_disc`.
  """

  def __init__(self, logits):
    bins = np.linspace(-20.0, 20.0, logits.shape[-1], dtype=np.float32)
    # Exactly antisymmetric, which rounding in linspace is not.
    super().__init__(logits, (bins - bins[::-1]) / 2)
    self._remember('logits', logits=logits)

  def _log_prob(self, value):
    return super()._log_prob(symlog_lib.symlog(tf.cast(value, tf.float32)))

  def _mean(self):
    return symlog_lib.symexp(super()._mean())


@tfp.distributions.RegisterKL(TwoHot, TwoHot)
def _kl_twohot(p, q, name=None):
  """KL(p || q) = sum over bins of p (ln p - ln q), [*batch]."""
  del name
  if type(p) is not type(q) or not np.array_equal(p.bins, q.bins):
    raise ValueError(f'{p.name} and {q.name} of other bins have no KL')
  log_p, log_q = tf.nn.log_softmax(p.logits), tf.nn.log_softmax(q.logits)
  return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)
