"""Golden numbers: the balanced KL with free nats."""

from typing import NamedTuple

import golden_data
import numpy as np
import tensorflow as tf

from dv3.cores import categorical
from dv3.cores import rssm
from dv3.losses import kl

DATA = golden_data.load('kl_balance')


class Context(NamedTuple):
  parts: dict
  latents: categorical.Latents


def balanced(post, prior):
  """Runs the RSSM's KL with given prior logits through the loss."""
  groups, classes = post.shape[-2:]
  core = rssm.RSSM(
      token_size=1, action_size=1, deter=8, hidden=2, stoch=groups,
      classes=classes, blocks=2, unimix=float(DATA['unimix']))
  core.prior = lambda deter: prior
  loss = kl.KLLoss(free_nats=float(DATA['free_nats']))
  latents = categorical.Latents(None, None, post)
  losses, _ = loss(Context({'core': core}, latents))
  return losses['dynamics'], losses['representation'], core.kl(latents)[0]


def check(actual, expected):
  if not np.any(expected):
    assert actual is None or not np.any(actual)
    return
  np.testing.assert_allclose(
      actual, expected, rtol=1e-3, atol=2e-5 * np.abs(expected).max())


def test_kl_balance_losses_and_gradients():
  post = tf.constant(DATA['post_logits'])
  prior = tf.constant(DATA['prior_logits'])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([post, prior])
    dynamics, representation, raw = balanced(post, prior)
    scales = DATA['combined_scales']
    combined = (
        scales[0] * tf.reduce_mean(dynamics)
        + scales[1] * tf.reduce_mean(representation))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  close(dynamics, DATA['dyn_loss'])
  close(representation, DATA['rep_loss'])
  close(raw, DATA['kl_no_free_nats'])
  for value, name in [
      (dynamics, 'dyn_grad'), (representation, 'rep_grad'),
      (combined, 'combined_mean_grad')]:
    check(tape.gradient(value, post), DATA[f'{name}_post'])
    check(tape.gradient(value, prior), DATA[f'{name}_prior'])
