"""Normalisation layers; computed in float32 whatever the compute dtype."""

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3.nets import recall
from dv3.nets import xla

# Longest rows that XLA on a CPU sums within what it computes around them; of
# longer ones it sums pieces of this length first, in a pass of its own.
LONG = 32


class Norm(keras.layers.Layer):
  """What the norms share: `compute` on tensors, `call` with the own weights."""

  def compute(self, x, *weights):
    """Returns x [..., n] normed in float32; the weights [n] are tensors."""
    raise NotImplementedError

  def call(self, x):
    return tf.cast(
        self.compute(x, *self.variables), self.compute_dtype)


class RMSNorm(Norm):
  """y = x / sqrt(mean(x^2) + epsilon) * scale over the last axis.

  Args:
    epsilon: added to the mean square; 1e-4 in the 2025 form.
    dtype: a Keras dtype policy; the result has its compute dtype.

  Source: Zhang and Sennrich 2019, eq. 4; epsilon of danijar/dreamerv3 e3f0224.
  """

  def __init__(self, epsilon=1e-4, **kwargs):
    super().__init__(autocast=False, **kwargs)
    self.epsilon = epsilon

  def build(self, input_shape):
    self.scale = self.add_weight(
        'scale', [input_shape[-1]], tf.float32, 'ones',
        experimental_autocast=False)
    super().build(input_shape)

  def compute(self, x, scale):
    x = tf.cast(x, tf.float32)
    if _by_products(x):
      return _rms_by_products(x, scale, self.epsilon)
    mean_square = recall.kept(
        tf.reduce_mean(tf.square(x), -1, keepdims=True))
    return x * (tf.math.rsqrt(mean_square + self.epsilon) * scale)

  def get_config(self):
    return {**super().get_config(), 'epsilon': self.epsilon}


class LayerNorm(Norm):
  """y = (x - m) / sqrt(max(0, mean(x^2) - m^2) + epsilon) * scale + shift.

  Args:
    epsilon: added to the variance; 1e-4 in the 2025 code, 1e-3 in the 2023
      form (whose golden file names the shift `bias`).
    dtype: a Keras dtype policy; the result has its compute dtype.

  Source: Ba et al. 2016, eq. 4, with the variance as a difference of moments
    (danijar/dreamerv3 e3f0224).
  """

  def __init__(self, epsilon=1e-3, **kwargs):
    super().__init__(autocast=False, **kwargs)
    self.epsilon = epsilon

  def build(self, input_shape):
    self.scale = self.add_weight(
        'scale', [input_shape[-1]], tf.float32, 'ones',
        experimental_autocast=False)
    self.shift = self.add_weight(
        'shift', [input_shape[-1]], tf.float32, 'zeros',
        experimental_autocast=False)
    super().build(input_shape)

  def compute(self, x, scale, shift):
    x = tf.cast(x, tf.float32)
    if _by_products(x):
      return _layer_by_products(x, scale, shift, self.epsilon)
    mean = recall.kept(tf.reduce_mean(x, -1, keepdims=True))
    mean_square = recall.kept(
        tf.reduce_mean(tf.square(x), -1, keepdims=True))
    variance = tf.maximum(mean_square - tf.square(mean), 0.0)
    factor = tf.math.rsqrt(variance + self.epsilon) * scale
    return (x - mean) * factor + shift

  def get_config(self):
    return {**super().get_config(), 'epsilon': self.epsilon}


class NoNorm(Norm):
  """y = x.

  Args:
    dtype: a Keras dtype policy, for which nothing is cast.
  """

  def __init__(self, **kwargs):
    super().__init__(autocast=False, **kwargs)

  def compute(self, x):
    return tf.cast(x, tf.float32)

  def call(self, x):
    return x


def make(kind, **kwargs):
  """Returns a norm layer of a kind: 'rms' (1e-4), 'layer' (1e-3) or 'none'.

  Raises:
    UserError: for another kind.
  """
  if kind == 'rms':
    return RMSNorm(**kwargs)
  if kind == 'layer':
    return LayerNorm(**kwargs)
  if kind == 'none':
    return NoNorm(**kwargs)
  raise errors.UserError(
      f"there is no norm {kind!r}; choose 'rms', 'layer' or 'none'")


def _by_products(x) -> bool:
  """Whether means over the last axis are best matrix products.

  Under XLA on a CPU a product with a column of 1 / n, and one gradient for all,
  make a norm of long rows twice as fast forward and one and a half times
  backward.
  """
  return xla.for_cpu() and len(x.shape) == 2 and x.shape[-1] > LONG


def _means(x):
  """Returns the means of the rows of x [rows, n], [rows, 1]."""
  size = x.shape[-1]
  return tf.matmul(x, tf.fill([size, 1], 1.0 / size))


def _rms_by_products(x, scale, epsilon):
  """See `RMSNorm.compute`; x [rows, n]."""
  @tf.custom_gradient
  def run(x, scale):
    factor = tf.math.rsqrt(recall.kept(_means(tf.square(x))) + epsilon)
    def gradient(dy):
      slope = dy * scale
      along = tf.square(factor) * _means(slope * x)
      return factor * (slope - x * along), tf.reduce_sum(dy * (x * factor), 0)
    return x * (factor * scale), gradient
  return run(x, scale)


def _layer_by_products(x, scale, shift, epsilon):
  """See `LayerNorm.compute`; x [rows, n]."""
  @tf.custom_gradient
  def run(x, scale, shift):
    mean = recall.kept(_means(x))
    variance = recall.kept(_means(tf.square(x))) - tf.square(mean)
    factor = tf.math.rsqrt(tf.maximum(variance, 0.0) + epsilon)
    def gradient(dy):
      slope = dy * scale
      normed = (x - mean) * factor
      # A variance that rounding made negative passes no gradient.
      along = tf.where(variance >= 0.0, _means(slope * normed), 0.0)
      return (
          factor * (slope - _means(slope) - normed * along),
          tf.reduce_sum(dy * normed, 0), tf.reduce_sum(dy, 0))
    return (x - mean) * (factor * scale) + shift, gradient
  return run(x, scale, shift)
