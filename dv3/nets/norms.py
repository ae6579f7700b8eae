"""Normalisation layers; computed in float32 whatever the compute dtype."""

import tensorflow as tf
import tf_keras as keras

from dv3 import errors


class Norm(keras.layers.Layer):
  """What the norms share: `compute` on tensors, `call` with the own weights."""

  def compute(self, x, *weights):
    """Returns x [..., n] normed with these weights [n] each, as tensors."""
    raise NotImplementedError

  def call(self, x):
    return self.compute(x, *self.trainable_variables)


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
    mean_square = tf.reduce_mean(tf.square(x), -1, keepdims=True)
    y = x * (tf.math.rsqrt(mean_square + self.epsilon) * scale)
    return tf.cast(y, self.compute_dtype)

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
    mean = tf.reduce_mean(x, -1, keepdims=True)
    mean_square = tf.reduce_mean(tf.square(x), -1, keepdims=True)
    variance = tf.maximum(mean_square - tf.square(mean), 0.0)
    factor = tf.math.rsqrt(variance + self.epsilon) * scale
    return tf.cast((x - mean) * factor + shift, self.compute_dtype)

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
