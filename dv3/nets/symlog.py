"""The symlog and symexp transforms."""

import tensorflow as tf


def symlog(x):
  """Returns sign(x) ln(1 + |x|), elementwise.

  Source: Hafner et al. 2023, eq. 1 (Nature 2025, eq. 9).
  """
  return tf.sign(x) * tf.math.log1p(tf.abs(x))


def symexp(x):
  """Returns sign(x) (exp(|x|) - 1), the inverse of `symlog`, elementwise.

  Source: Hafner et al. 2023, eq. 1 (Nature 2025, eq. 9).
  """
  return tf.sign(x) * tf.math.expm1(tf.abs(x))
