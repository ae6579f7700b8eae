"""The actor over every kind of action at once."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dv3 import types
from dv3.distributions import rng as rng_lib
from dv3.heads import actor
from dv3.nets import inputs

SPECS = {
    'action/buttons': types.Spec((2,), 'int32', (2, 2)),
    'action/levels': types.Spec((2,), 'int32', (5, 3)),
    'action/turn': types.Spec((2,), 'float32')}


@pytest.fixture(name='dist', scope='module')
def make_dist():
  head = actor.ActorHead(
      feature_spec={'x': 4}, action_spec=SPECS, layers=1, units=8,
      output_scale=1.0, min_stddev=0.1, max_stddev=1.0)
  head.build()
  return head({'x': tf.random.stateless_normal([6, 4], (0, 1))})


def _pieces(dist):
  """Returns per-piece log-probabilities or (mean, stddev), from the pieces."""
  *discrete, turn = dist.pieces
  logs = [np.asarray(x.log_probs, np.float64)[:, 0] for x in discrete]
  assert [x.shape[-1] for x in logs] == [2, 2, 5, 3]
  return logs, turn


def test_log_prob_is_the_sum_over_the_entries(dist):
  logs, turn = _pieces(dist)
  actions = {
      'action/buttons': tf.constant([[1, 0]] * 6),
      'action/levels': tf.constant([[4, 2]] * 6),
      'action/turn': tf.constant([[0.3, -0.7]] * 6)}
  vector = inputs.ActionCodec(SPECS).encode(actions)
  expected = sum(
      log[:, i] for log, i in zip(logs, (1, 0, 4, 2), strict=True))
  mean, stddev = np.asarray(turn.mean()), np.asarray(turn.scale, np.float64)
  z = (actions['action/turn'] - mean) / stddev
  expected = expected + np.sum(
      -0.5 * z ** 2 - np.log(stddev) - 0.5 * math.log(2 * math.pi), -1)
  np.testing.assert_allclose(dist.log_prob(vector), expected, rtol=1e-5)


def test_entropy_is_the_sum_over_the_entries(dist):
  logs, turn = _pieces(dist)
  expected = sum(-(np.exp(x) * x).sum(-1) for x in logs)
  stddev = np.asarray(turn.scale, np.float64)
  expected = expected + np.sum(
      np.log(stddev) + 0.5 * math.log(2 * math.pi * math.e), -1)
  np.testing.assert_allclose(dist.entropy(), expected, rtol=1e-5)


def test_samples_and_modes_are_valid_actions(dist):
  codec = inputs.ActionCodec(SPECS)
  for vector in (rng_lib.Rng(3).sample(dist), dist.mode()):
    assert vector.shape == [6, codec.size]
    again = codec.encode(codec.decode(vector))
    np.testing.assert_array_equal(vector, again)
    levels = codec.decode(vector)['action/levels'].numpy()
    assert levels.min() >= 0 and (levels < [5, 3]).all()


def test_means_lie_within_the_bounds_and_spreads_within_theirs(dist):
  turn = dist.pieces[-1]
  assert np.abs(turn.mean()).max() <= 1
  stddev = np.asarray(turn.scale)
  assert stddev.min() >= 0.1 and stddev.max() <= 1.0
