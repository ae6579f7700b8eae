"""Weight initialisers of the published networks."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dv3 import errors

# A unit normal cut at two standard deviations has this standard deviation.
_TRUNCATED_STDDEV = 0.87962566103423978


class TruncatedNormal(keras.initializers.Initializer):
  """A normal cut at two standard deviations, scaled by the fan.

    weight ~ N(0, 1) in [-2, 2] * scale * sqrt(1 / fan) / 0.8796

  so that the standard deviation is scale / sqrt(fan). The fan-in is the
  product of all axes but the last, for block-diagonal kernels too.

  Args:
    scale: the factor on the standard deviation; 0 gives zeros.
    fan: 'in' (2025 form) or 'average', (fan_in + fan_out) / 2 (2023 form),
      where kernel positions of a convolution count in both.

  Raises:
    UserError: if `fan` is neither.

  Source: danijar/dreamerv3 e3f0224 and PyPI dreamerv3 1.5.0, measured.
  """

  def __init__(self, scale: float = 1.0, fan: str = 'in'):
    if fan not in ('in', 'average'):
      raise errors.UserError(
          f"there is no fan {fan!r}; choose 'in' or 'average'")
    self.scale = float(scale)
    self.fan = fan

  def __call__(self, shape, dtype=None, **kwargs):
    """Returns a [*shape] tensor of `dtype` (float32 unless given)."""
    dtype = tf.as_dtype(dtype or tf.float32)
    shape = [int(x) for x in shape]
    if self.scale == 0.0:
      return tf.zeros(shape, dtype)
    fan_in = int(np.prod(shape[:-1])) or 1
    fan_out = int(np.prod(shape[:-2])) * shape[-1] if len(shape) > 1 else 1
    fan = fan_in if self.fan == 'in' else (fan_in + fan_out) / 2
    stddev = self.scale / np.sqrt(fan) / _TRUNCATED_STDDEV
    return tf.cast(tf.random.truncated_normal(shape, 0.0, stddev), dtype)

  def get_config(self):
    """Returns the constructor's arguments."""
    return {'scale': self.scale, 'fan': self.fan}
