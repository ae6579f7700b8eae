"""A world model out of dv3's parts in a plain Keras training loop.

The encoder, the RSSM and the two-hot head learn the rewards of made-up
sequences: no gin, no trainer, no global state. Run it with

  python examples/keras_world_model.py
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

import dv3
from dv3 import distributions
from dv3 import types

BATCH, LENGTH, ACTIONS = 8, 12, 2


def sequences(seed: int):
  """Makes sequences whose reward is the sum of the last two observations."""
  rng = np.random.default_rng(seed)
  obs = rng.normal(size=(BATCH, LENGTH, 3)).astype(np.float32)
  reward = obs.sum(-1)
  reward[:, 1:] += obs.sum(-1)[:, :-1]
  action = np.eye(ACTIONS, dtype=np.float32)[
      rng.integers(0, ACTIONS, (BATCH, LENGTH))]
  is_first = np.zeros((BATCH, LENGTH), bool)
  is_first[:, 0] = True
  return obs, action, reward, is_first


def main(updates: int = 200) -> list[float]:
  """Trains and returns the reward loss of each update, in nats."""
  encoder = dv3.get('encoder', 'mlp')(
      obs_spec={'obs': types.Spec((3,), 'float32')}, layers=1, units=32)
  core = dv3.get('core', 'rssm')(
      token_size=encoder.token_size, action_size=ACTIONS, deter=64, hidden=32,
      stoch=8, classes=8, blocks=4)
  head = dv3.get('head', 'twohot')(
      feature_spec=core.feature_spec, layers=1, units=32)
  parts = (encoder, core, head)
  for part in parts:
    part.build()
  variables = [v for part in parts for v in part.trainable_variables]
  optimizer = keras.optimizers.Adam(3e-3)

  @tf.function
  def update(obs, action, reward, is_first, step):
    rng = distributions.Rng(0).fold(step)
    with tf.GradientTape() as tape:
      latents, _ = core.observe(
          encoder({'obs': obs}), action, is_first, core.initial(BATCH), rng)
      loss = -tf.reduce_mean(head(core.features(latents)).log_prob(reward))
      dynamics, representation = core.kl(latents)
      total = loss + tf.reduce_mean(
          tf.maximum(1.0, dynamics) + 0.1 * tf.maximum(1.0, representation))
    gradients = tape.gradient(
        total, variables,
        unconnected_gradients=tf.UnconnectedGradients.ZERO)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return loss

  losses = []
  for step in range(updates):
    batch = [tf.constant(x) for x in sequences(step)]
    losses.append(float(update(*batch, tf.constant(step))))
    if step % 20 == 0:
      print(f'update {step}: reward loss {losses[-1]:.3f} nats')
  return losses


if __name__ == '__main__':
  main()
