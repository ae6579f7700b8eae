"""Schedules: their formulas, what they refuse, and saving them."""

import json

import numpy as np
import pytest
import tf_keras as keras

from dv3 import errors
from dv3.optimizers import schedules

STEPS = np.array([0, 1, 2, 5, 19, 20, 21, 50, 99, 100, 101, 1000])
RATE, WARMUP, ANNEAL = 3e-3, 20, 100
X = np.clip((STEPS - WARMUP) / (ANNEAL - WARMUP), 0, 1)
RAMP = np.minimum(1, STEPS / WARMUP)
POINTS = ((0, 0.4), (40, 0.4), (60, 3.0))
EXPECTED = {
    'constant': RATE * RAMP,
    'linear': RATE * RAMP * (0.1 + 0.9 * (1 - X)),
    # The reference's share of the last rate is a tenth of the rate itself.
    'cosine': RATE * RAMP * (
        0.1 * RATE + (1 - 0.1 * RATE) * 0.5 * (1 + np.cos(np.pi * X))),
    'piecewise': RATE * RAMP * np.interp(STEPS, *zip(*POINTS, strict=True)),
}


def make(name):
  return schedules.make(
      name, RATE, warmup_updates=WARMUP, anneal_updates=ANNEAL,
      points=POINTS)


@pytest.mark.parametrize('name', schedules.NAMES)
def test_formula(name):
  schedule = make(name)
  actual = [schedule(step).numpy() for step in STEPS]
  np.testing.assert_allclose(actual, EXPECTED[name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('name', schedules.NAMES)
def test_saved_and_loaded(name):
  saved = json.loads(json.dumps(
      keras.optimizers.schedules.serialize(make(name))))
  loaded = keras.optimizers.schedules.deserialize(saved)
  np.testing.assert_allclose(
      [loaded(step) for step in STEPS], EXPECTED[name], rtol=1e-5, atol=1e-9)


def test_a_cosine_that_ends_where_one_says():
  schedule = schedules.Cosine(RATE, ANNEAL, final=0.25)
  np.testing.assert_allclose(schedule(0), RATE, rtol=1e-6)
  np.testing.assert_allclose(schedule(ANNEAL), 0.25 * RATE, rtol=1e-5)


def test_absolute_rates():
  schedule = schedules.Piecewise(1.0, [[0, 1e-3], [10, 2e-3]])
  np.testing.assert_allclose(
      [schedule(s) for s in (0, 5, 10, 99)], [1e-3, 1.5e-3, 2e-3, 2e-3],
      rtol=1e-5)


def test_steps_beyond_the_last_are_constant():
  np.testing.assert_allclose(make('linear')(10**9), 0.1 * RATE, rtol=1e-5)


@pytest.mark.parametrize('name, arguments, message', [
    ('cosin', {}, 'did you mean cosine'),
    ('linear', {}, 'anneal_updates is 0'),
    ('cosine', {'anneal_updates': 5, 'warmup_updates': 5}, 'warm-up of 5'),
    ('piecewise', {}, 'pairs'),
    ('piecewise', {'points': ((1, 1.0),)}, 'first at update 0'),
    ('piecewise', {'points': ((0, 1.0), (0, 2.0))}, 'later than'),
    ('piecewise', {'points': (0, 1.0)}, 'pairs'),
    ('constant', {'warmup_updates': -1}, 'warmup_updates is -1'),
])
def test_refused(name, arguments, message):
  with pytest.raises(errors.UserError, match=message):
    schedules.make(name, RATE, **arguments)


def test_a_negative_rate_is_refused():
  with pytest.raises(errors.UserError, match='negative'):
    schedules.Constant(-1.0)
