"""Ways to keep gradients small."""

import tensorflow as tf


def adaptive(gradient, parameter, share: float, floor: float = 1e-3):
  """Clips a gradient's norm to a share of its parameter's norm.

    g <- g / max(1, |g| / (share max(floor, |p|)))

  Norms are over whole tensors, of biases, norm scales and scalars too.

  Args:
    gradient: [...] float32.
    parameter: [...] float32, the same shape.
    share: the largest norm as a share of the parameter's, above 0.
    floor: the least parameter norm to reckon with, for parameters that start
      at zero.

  Returns:
    [...] float32.

  Source: Brock et al. 2021 (there per unit); danijar/dreamerv3 e3f0224.
  """
  limit = share * tf.maximum(floor, _norm(parameter))
  return gradient * (1.0 / tf.maximum(1.0, _norm(gradient) / limit))


def by_global_norm(gradients, limit: float):
  """Scales all gradients so that their common norm is at most `limit`.

    g <- g min(1, limit / |all g|)

  Args:
    gradients: list of [...] float32.
    limit: the largest norm over all tensors, above 0.

  Returns:
    List of [...] float32.
  """
  norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(g) for g in gradients]))
  factor = tf.minimum(1.0, limit / norm)  # limit / 0 is inf, so 1.
  return [g * factor for g in gradients]


def _norm(x):
  """Returns the norm of a tensor of any rank; one kernel and a scalar."""
  return tf.sqrt(2.0 * tf.nn.l2_loss(x))
