"""Ways to keep gradients small."""

import tensorflow as tf


def adaptive(gradients, parameters, share: float, floor: float = 1e-3):
  """Clips each gradient's norm to a share of its parameter's norm.

    g <- g / max(1, |g| / (share max(floor, |p|)))

  Norms are over whole tensors, of biases, norm scales and scalars too.

  Args:
    gradients: list of [...] float32.
    parameters: list of [...] float32, the same shapes.
    share: the largest norm as a share of the parameter's, above 0.
    floor: the least parameter norm to reckon with, for parameters that start
      at zero.

  Returns:
    List of [...] float32.

  Source: Brock et al. 2021 (there per unit); danijar/dreamerv3 e3f0224.
  """
  limits = share * tf.maximum(floor, _norms(parameters))
  factors = 1.0 / tf.maximum(1.0, _norms(gradients) / limits)
  return [
      g * factor
      for g, factor in zip(gradients, tf.unstack(factors), strict=True)]


def by_global_norm(gradients, limit: float):
  """Scales all gradients so that their common norm is at most `limit`.

    g <- g min(1, limit / |all g|)

  Args:
    gradients: list of [...] float32.
    limit: the largest norm over all tensors, above 0.

  Returns:
    List of [...] float32.
  """
  norm = tf.norm(_norms(gradients))
  factor = tf.minimum(1.0, limit / norm)  # limit / 0 is inf, so 1.
  return [g * factor for g in gradients]


def _norms(tensors):
  """Returns the norms of tensors of any rank as one vector.

  One kernel a tensor; what follows works on all norms at once, which keeps
  graphs of hundreds of variables small.
  """
  return tf.sqrt(2.0 * tf.stack([tf.nn.l2_loss(x) for x in tensors]))
