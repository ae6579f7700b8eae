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
  reward, live, mix, bootstrap = map(
      tf.convert_to_tensor, (reward, live, mix, bootstrap))
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


def lambda_target(reward, live, value, lambda_):
  """Computes the 2021 form's lambda-targets of imagined trajectories.

    V[t] = reward[t] + live[t] ((1 - lambda) value[t+1] + lambda V[t+1])
    V[H] = value[H]

  The reward predicted at a state belongs to that state's own target, where
  `lambda_return` counts from the next state on.

  Args:
    reward: [N, H + 1] float32, predicted at each state.
    live: [N, H + 1] float32, discount times probability to continue.
    value: [N, H + 1] float32 of each state.
    lambda_: mixing factor in [0, 1].

  Returns:
    [N, H] float32.

  Source: Hafner et al. 2021 (DreamerV2), eq. 4.
  """
  # The same recurrence, with reward and discount one step later.
  return lambda_return(
      tf.pad(reward[:, :-1], [[0, 0], [1, 0]]),
      tf.pad(live[:, :-1], [[0, 0], [1, 0]]),
      tf.fill(tf.shape(reward), lambda_), value)
