"""What a loss sees: the whole batch, and what the model makes of it."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import tensorflow as tf


class Imagined(NamedTuple):
  """Dreamed trajectories of N = B * T starts, row b * T + t.

  Everything but `critic` and `actor` has stopped gradients unless the agent
  imagines with gradients.

  Attributes:
    features: {name: [N, H + 1, F]}; index 0 is the start.
    action: [N, H + 1, A], the action chosen at each state.
    reward: [N, H + 1] float32, predicted on arriving at each state.
    continuation: [N, H + 1] float32, predicted probability to continue.
    discount: float, what multiplies the continuation.
    weight: [N, H + 1] float32, probability (discounted) to get there.
    value: [N, H + 1] float32, the target critic's mean.
    slow_value: [N, H + 1] float32, the slow critic's mean.
    returns: [N, H] float32 lambda-returns.
    critic: the critic's Distribution [N, H + 1] with gradients to the critic
      alone, from the pass that made `value`, so that its loss need not make
      another one; None where there was no such pass.
    actor: the actor's Distribution [N, H + 1] with gradients to the actor
      alone. One of the last state too, so that no loss copies the features of
      all others; None where imagination carries gradients.
  """

  features: dict[str, tf.Tensor]
  action: tf.Tensor
  reward: tf.Tensor
  continuation: tf.Tensor
  discount: float
  weight: tf.Tensor
  value: tf.Tensor
  slow_value: tf.Tensor
  returns: tf.Tensor
  critic: Any = None
  actor: Any = None


class Context(NamedTuple):
  """The batch, the filtered latents and the agent's parts.

  Attributes:
    obs: {key: [B, T, ...]} as stored in replay.
    prev_action: [B, T, A] float32, the action that led to each observation.
    reward: [B, T] float32 received on arrival.
    is_first: [B, T] bool.
    is_last: [B, T] bool.
    is_terminal: [B, T] bool.
    tokens: [B, T, E].
    latents: the core's Latents, [B, T, ...].
    features: {name: [B, T, F]}, with gradients.
    parts: {name: callable part}: core, decoder, reward, continue, actor,
      critic, slow_critic.
    discount: float, 1 - 1 / horizon.
    discounted_continue: whether the discount is part of the continue target.
    lambda_: float, the mixing factor of lambda-returns.
    imagined: dreamed trajectories; None for losses of the model phase.
    statistics: what the `statistics` of this very loss returned, where they
      were computed apart from it; else None, and the loss computes them.
  """

  obs: dict[str, tf.Tensor]
  prev_action: tf.Tensor
  reward: tf.Tensor
  is_first: tf.Tensor
  is_last: tf.Tensor
  is_terminal: tf.Tensor
  tokens: tf.Tensor
  latents: Any
  features: dict[str, tf.Tensor]
  parts: dict[str, Callable]
  discount: float
  discounted_continue: bool
  lambda_: float
  imagined: Imagined | None = None
  statistics: Any = None

  def per_start(self, value):
    """Averages [N, H] over the horizon and returns it as [B, T]."""
    return tf.reshape(tf.reduce_mean(value, 1), tf.shape(self.reward))
