"""One-hot categoricals with uniform mix and straight-through gradients."""

import functools

import tensorflow as tf
import tensorflow_probability as tfp

from dv3.distributions import base
from dv3.nets import linear
from dv3.nets import picking


class OneHot(base.Distribution):
  """G independent categoricals over one-hot vectors.

    p = (1 - unimix) softmax(logits) + unimix / C,     log-probs = ln p

  Event shape [G, C]; log-probabilities, entropies and KLs are sums over G.

  Args:
    logits: [*batch, G, C], before the mix; computed in float32.
    unimix: the uniform share in [0, 1).

  Source: Hafner et al. 2023, section "World model learning" (1 % unimix).
  """

  def __init__(self, logits, unimix: float = 0.0):
    self.raw_logits = logits = tf.cast(logits, tf.float32)
    self.unimix = unimix
    if unimix:
      probs = tf.nn.softmax(logits)
      self.probs = (1.0 - unimix) * probs + unimix / logits.shape[-1]
      self.log_probs = tf.math.log(self.probs)
    else:
      self.log_probs = tf.nn.log_softmax(logits)
      self.probs = tf.exp(self.log_probs)
    super().__init__(logits, 2, logits.shape[-2:], 'OneHot')
    self._remember('logits', logits=logits, unimix=unimix)

  def _log_prob(self, value):
    return tf.reduce_sum(self.log_probs * tf.cast(value, tf.float32), [-2, -1])

  def _entropy(self):
    return -tf.reduce_sum(self.probs * self.log_probs, [-2, -1])

  def _mode(self):
    return tf.one_hot(
        tf.argmax(self.raw_logits, -1), self.event_shape[-1], dtype=tf.float32)

  def _mean(self):
    return self.probs

  def draw(self, rng):
    """Inverts the cumulative distribution at one uniform number a group."""
    if picking.draws_pay(self.probs.shape):
      index = _draw_by_class(
          self.raw_logits, self.unimix, rng.uniform(self.probs.shape[:-1]))
      return picking.one_hot(index, self.probs.shape[-1])
    cumulative = tf.cumsum(self.probs, -1)
    shape = linear.dynamic_shape(self.probs)
    uniform = rng.uniform(shape[:-1])
    below = cumulative < (uniform * cumulative[..., -1])[..., None]
    # The class is the first whose sum is not below. As sums do not fall, its
    # one-hot vector is a difference; the last sum is not compared.
    below = tf.cast(below[..., :-1], tf.float32)
    rest = [[0, 0]] * (below.shape.rank - 1)
    return tf.pad(below, [*rest, [1, 0]], constant_values=1.0) - tf.pad(
        below, [*rest, [0, 1]])

  def straight_through(self, sample):
    """Returns `sample` with the gradient of the mixed probabilities.

    Source: Bengio et al. 2013; Hafner et al. 2021, algorithm 1.
    """
    return _straight_through(
        tf.stop_gradient(tf.cast(sample, tf.float32)), self.probs)


def _draw_by_class(logits, unimix, uniform):
  """See `OneHot.draw`; returns classes [..., G] int32.

  With classes outermost XLA on a CPU vectorises each step, over groups.
  """
  *lead, groups, classes = logits.shape
  logits = tf.linalg.matrix_transpose(logits)
  greatest = tf.reduce_max(logits, -2)
  # XLA fuses no product: what draws the numbers cannot be vectorised, nor could
  # what it is fused with.
  uniform = tf.matmul(tf.reshape(uniform, [-1, groups]), tf.eye(groups))
  uniform = tf.reshape(uniform, [*lead, groups])
  total = tf.zeros([*lead, groups])
  sums = []
  for c in range(classes):
    total += tf.exp(logits[..., c, :] - greatest)
    sums.append(total)
  if unimix:
    sums = [
        (1.0 - unimix) * x + unimix * (c + 1) / classes * total
        for c, x in enumerate(sums)]
  # As multiples of the total: a last class of probability 0 is never drawn.
  below = [tf.cast(x < uniform * total, tf.int32) for x in sums[:-1]]
  return functools.reduce(lambda a, b: a + b, below)


@tf.custom_gradient
def _straight_through(sample, probs):
  """Returns the sample, and hands its gradient to probs alone.

  sample + probs - sg(probs) is the same, up to rounding, in three passes.
  """
  del probs
  return tf.identity(sample), lambda upstream: (
      tf.zeros_like(upstream), upstream)


@tfp.distributions.RegisterKL(OneHot, OneHot)
def _kl_onehot(p, q, name=None):
  """KL(p || q) = sum over groups and classes of p (ln p - ln q), [*batch]."""
  del name
  return tf.reduce_sum(p.probs * (p.log_probs - q.log_probs), [-2, -1])
