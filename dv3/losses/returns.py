"""Lambda-returns."""

import tensorflow as tf


def lambda_return(reward, live, mix, bootstrap):
  """Computes lambda-returns backwards along a sequence.

    R[t] = reward[t+1] + live[t+1] ((1 - mix[t+1]) bootstrap[t+1]
                                    + mix[t+1] R[t+1])
    R[T-1] = bootstrap[T-1]

  The recurrence is evaluated in log2(T) vectorised rounds.

  Args:
    reward: [B, T] float32, received on arriving at each step.
    live: [B, T] float32 in [0, 1], discount times the probability that the
      step is not terminal.
    mix: [B, T] float32 in [0, 1], lambda, and 0 where the sequence was cut.
    bootstrap: [B, T] float32, value of each step in reward units.

  Returns:
    [B, T - 1] float32.

  Raises:
    ValueError: if the shapes are not of rank 2.

  Source: Hafner et al., Nature 2025, eq. 5; danijar/dreamerv3 e3f0224.
  """
  if reward.shape.rank != 2:
    raise ValueError(f'lambda_return takes [B, T], not {reward.shape}')
  constant = reward + live * (1.0 - mix) * bootstrap
  # R[t] = constant[t+1] + factor[t+1] R[t+1], closed by R[T-1] = bootstrap.
  constant = tf.concat([constant[:, 1:], bootstrap[:, -1:]], 1)
  factor = (live * mix)[:, 1:]
  factor = tf.concat([factor, tf.zeros_like(bootstrap[:, -1:])], 1)
  length = reward.shape[1]
  shift = 1
  while shift < length:
    later = lambda x, n=shift: tf.pad(x[:, n:], [[0, 0], [0, n]])
    constant = constant + factor * later(constant)
    factor = factor * later(factor)
    shift *= 2
  return constant[:, :-1]
