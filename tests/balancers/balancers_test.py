"""Balancers: their formulas, and names that do not exist."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3.balancers import fixed
from dv3.balancers import harmony

MEANS = {
    'dynamics': 1.5, 'representation': 2.5, 'reconstruction/image': 700.0,
    'reconstruction/speed': 3.0, 'reward': 0.2, 'continue': 0.1,
    'actor': -0.7}


def tensors(means):
  return {k: tf.constant(v) for k, v in means.items()}


def test_fixed():
  balancer = fixed.FixedBalancer(scales={'representation': 0.1, 'actor': 2.0})
  balancer.build(list(MEANS))
  total, metrics = balancer(tensors(MEANS))
  np.testing.assert_allclose(
      total, sum(MEANS.values()) - 0.9 * 2.5 - 0.7, rtol=1e-6)
  assert metrics == {} and total.dtype == tf.float32
  total, _ = fixed.FixedBalancer()(tensors(MEANS))
  np.testing.assert_allclose(total, sum(MEANS.values()), rtol=1e-6)


def test_harmony_formula():
  balancer = harmony.HarmonyBalancer(
      scales={'dynamics': 1.0, 'representation': 0.1, 'continue': 3.0,
              'reconstruction/speed': 3.0})
  balancer.build(list(MEANS))
  s = [0.7, -0.4, 0.2]
  for variable, value in zip(balancer.logarithms, s, strict=True):
    assert variable.numpy() == 0.0  # sigma starts at 1
    variable.assign(value)
  losses = [
      (700.0 + 3 * 3.0) / 4, 0.2, (1.5 + 0.1 * 2.5) / 1.1]
  expected = 3 * 0.1 - 0.7 + sum(
      loss / np.exp(x) + np.log(1 + np.exp(x))
      for loss, x in zip(losses, s, strict=True))
  total, metrics = balancer(tensors(MEANS))
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  np.testing.assert_allclose(
      metrics['harmony_weight_reward'], np.exp(0.4), rtol=1e-5)


@pytest.mark.parametrize('loss', [0.01, 1.0, 30.0])
def test_harmony_is_best_at_the_documented_scale(loss):
  balancer = harmony.HarmonyBalancer(groups=('reward',))
  balancer.build(['reward'])
  best = (loss + np.sqrt(loss ** 2 + 4 * loss)) / 2
  slopes = []
  for sigma in (0.5 * best, best, 2.0 * best):
    balancer.logarithms[0].assign(np.log(sigma))
    with tf.GradientTape() as tape:
      total, _ = balancer({'reward': tf.constant(loss)})
    slopes.append(tape.gradient(total, balancer.trainable_variables)[0])
  below, at, above = slopes
  assert below < -1e-3 and above > 1e-3
  np.testing.assert_allclose(at, 0.0, atol=1e-5)


@pytest.mark.parametrize('make', [
    lambda: fixed.FixedBalancer(scales={'rewards': 2.0}),
    lambda: harmony.HarmonyBalancer(scales={'rewards': 2.0}),
    lambda: harmony.HarmonyBalancer(groups=(('reward', 'rewards'),)),
])
def test_a_name_that_no_loss_has(make):
  with pytest.raises(errors.UserError, match='rewards.*actor, continue'):
    make().build(list(MEANS))


def test_a_loss_in_two_groups():
  balancer = harmony.HarmonyBalancer(
      groups=('reward', ('dynamics', 'reward')))
  with pytest.raises(errors.UserError, match='reward in two groups'):
    balancer.build(list(MEANS))


def test_unbuilt():
  with pytest.raises(errors.UserError, match='call its build'):
    harmony.HarmonyBalancer()(tensors(MEANS))
  with pytest.raises(errors.UserError, match='call its build'):
    _ = harmony.HarmonyBalancer().trainable_variables
