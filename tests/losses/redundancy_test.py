"""The redundancy loss against its formula in NumPy."""

import types

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3 import losses
from dv3 import registry

SHARE, BATCH, LENGTH, SIZE, FEATURES = 0.3, 5, 7, 4, 6


def context(tokens, features):
  flags = tf.zeros([BATCH, LENGTH], tf.bool)
  return losses.Context(
      obs={}, prev_action=None, reward=tf.zeros([BATCH, LENGTH]),
      is_first=flags, is_last=flags, is_terminal=flags, tokens=tokens,
      latents=None, features={'deter': features[..., :2],
                              'stoch': features[..., 2:]},
      parts={}, discount=0.99, discounted_continue=True, lambda_=0.95)


def make():
  loss = registry.get('loss', 'redundancy')(share=SHARE, epsilon=0.0)
  loss.build({
      'encoder': types.SimpleNamespace(token_size=SIZE),
      'core': types.SimpleNamespace(feature_spec={'deter': 2, 'stoch': 4})})
  return loss


def test_is_barlow_twins_of_projection_and_tokens():
  rng = np.random.default_rng(0)
  tokens = rng.normal(3.0, 2.0, (BATCH, LENGTH, SIZE)).astype(np.float32)
  features = rng.normal(size=(BATCH, LENGTH, FEATURES)).astype(np.float32)
  loss = make()
  kernel, = (x.numpy() for x in loss.trainable_variables)
  values, metrics = loss(context(tf.constant(tokens), tf.constant(features)))
  x = features.reshape(-1, FEATURES) @ kernel
  correlation = np.corrcoef(x, tokens.reshape(-1, SIZE), rowvar=False)[
      :SIZE, SIZE:]
  expected = sum(
      (1 - correlation[i, i]) ** 2 if i == j else SHARE * correlation[i, j] ** 2
      for i in range(SIZE) for j in range(SIZE))
  assert values['redundancy'].shape == (BATCH, LENGTH)
  np.testing.assert_allclose(values['redundancy'], expected, rtol=1e-4)
  np.testing.assert_allclose(
      metrics['token_correlation'], np.diag(correlation).mean(), rtol=1e-4)


def test_trains_projection_and_features_but_not_tokens():
  rng = np.random.default_rng(0)
  tokens = tf.constant(rng.normal(size=(BATCH, LENGTH, SIZE)), tf.float32)
  features = tf.constant(
      rng.normal(size=(BATCH, LENGTH, FEATURES)), tf.float32)
  loss = make()
  with tf.GradientTape() as tape:
    tape.watch([tokens, features])
    value = tf.reduce_mean(loss(context(tokens, features))[0]['redundancy'])
  kernel, = loss.trainable_variables
  to_tokens, to_features, to_kernel = tape.gradient(
      value, [tokens, features, kernel])
  assert to_tokens is None
  assert np.abs(to_features).max() > 0 and np.abs(to_kernel).max() > 0


def test_tokens_that_never_change_give_no_infinite_gradient():
  loss = make()
  features = tf.constant(
      np.random.default_rng(0).normal(size=(BATCH, LENGTH, FEATURES)),
      tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(features)
    value = tf.reduce_mean(loss(context(
        tf.ones([BATCH, LENGTH, SIZE]), features))[0]['redundancy'])
  assert np.isfinite(value)
  assert np.isfinite(tape.gradient(value, features)).all()


def test_unbuilt_says_so():
  with pytest.raises(errors.UserError, match='call its build'):
    registry.get('loss', 'redundancy')()(None)
