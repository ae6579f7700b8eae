"""Golden numbers: symlog, symexp and the two-hot distribution."""

import golden_data
import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3.nets import symlog as symlog_lib

DATA = golden_data.load('transforms')
CASES = ['twohot_odd', 'twohot_even', 'twohot_small_odd', 'twohot_small_even']


def gradient(function, x):
  x = tf.constant(x)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = tf.reduce_sum(function(x))
  return tape.gradient(y, x).numpy()


def test_transforms_symlog():
  x = DATA['symlog/x']
  np.testing.assert_allclose(
      symlog_lib.symlog(x), DATA['symlog/y'], rtol=2e-6, atol=1e-7)
  usual = (x != 0) & (np.abs(x) < 1e37)
  np.testing.assert_allclose(
      gradient(symlog_lib.symlog, x)[usual], DATA['symlog/grad'][usual],
      rtol=2e-6, atol=1e-7)


def test_transforms_symexp():
  np.testing.assert_allclose(
      symlog_lib.symexp(DATA['symexp/x']), DATA['symexp/y'],
      rtol=2e-6, atol=1e-7)


def test_transforms_roundtrip():
  x = DATA['roundtrip/x']
  np.testing.assert_allclose(
      symlog_lib.symexp(symlog_lib.symlog(x)), DATA['roundtrip/y'],
      rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize('case', CASES)
def test_transforms_twohot_bins(case):
  bins = DATA[f'{case}/bins']
  np.testing.assert_allclose(
      distributions.symexp_bins(len(bins)), bins, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('case', CASES)
def test_transforms_twohot_loss(case):
  bins = distributions.symexp_bins(len(DATA[f'{case}/bins']))
  target = DATA[f'{case}/target']
  loss = lambda x: -distributions.TwoHot(x, bins).log_prob(target)
  logits = DATA[f'{case}/logits']
  np.testing.assert_allclose(
      loss(logits), DATA[f'{case}/loss'], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
      gradient(loss, logits), DATA[f'{case}/loss_grad_logits'],
      rtol=1e-3, atol=2e-5)
  np.testing.assert_allclose(
      distributions.TwoHot(logits, bins).encode(tf.constant(target)),
      DATA[f'{case}/target_weights'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('case', CASES)
def test_transforms_twohot_prediction(case):
  bins = distributions.symexp_bins(len(DATA[f'{case}/bins']))
  logits = DATA[f'{case}/logits'].astype(np.float64)
  probs = np.exp(logits - logits.max(-1, keepdims=True))
  probs /= probs.sum(-1, keepdims=True)
  allowed = 1e-6 * (probs * np.abs(bins)).sum(-1)
  mean = lambda x: distributions.TwoHot(x, bins).mean()
  error = np.abs(mean(DATA[f'{case}/logits']) - DATA[f'{case}/pred'])
  assert np.all(error <= allowed), (error / allowed).max()
  expected = DATA[f'{case}/pred_grad_logits']
  actual = gradient(mean, DATA[f'{case}/logits'][-len(expected):])
  largest = np.abs(expected).max()
  np.testing.assert_allclose(
      actual, expected, rtol=1e-3, atol=2e-5 * largest)


@pytest.mark.parametrize('case', CASES)
def test_transforms_twohot_constant_logits_give_exactly_zero(case):
  bins = distributions.symexp_bins(len(DATA[f'{case}/bins']))
  mean = distributions.TwoHot(DATA[f'{case}/const_logits'], bins).mean()
  np.testing.assert_array_equal(mean, DATA[f'{case}/const_pred'])
