"""Lambda-returns against the recurrence, one step at a time."""

import numpy as np
import pytest
import tensorflow as tf

from dv3.losses import returns


@pytest.mark.parametrize('length', [1, 2, 5, 16, 33])
def test_equals_the_recurrence(length):
  rng = np.random.default_rng(length)
  reward, bootstrap = rng.normal(size=(2, 3, length)).astype(np.float32)
  live = rng.uniform(size=(3, length)).astype(np.float32)
  live[rng.uniform(size=live.shape) < 0.2] = 0
  mix = np.where(rng.uniform(size=live.shape) < 0.2, 0, 0.95)
  mix = mix.astype(np.float32)
  value = bootstrap[:, -1].astype(np.float64)
  expected = np.zeros((3, length - 1))
  for t in reversed(range(length - 1)):
    after = (1 - mix[:, t + 1]) * bootstrap[:, t + 1] + mix[:, t + 1] * value
    value = reward[:, t + 1] + live[:, t + 1] * after
    expected[:, t] = value
  result = returns.lambda_return(*map(
      tf.constant, (reward, live, mix, bootstrap)))
  assert result.shape == [3, length - 1]
  np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_nothing_passes_a_terminal_step():
  reward = tf.constant([[9.0, 1, 2, 100]])
  live = tf.constant([[1.0, 1, 0, 1]])
  ones = tf.ones([1, 4])
  result = returns.lambda_return(reward, live, ones, 50 * ones)
  # Arriving at the terminal step 2 pays 2, and nothing after it counts.
  np.testing.assert_allclose(result[0, :2], [1 + 2, 2])


def test_other_ranks_are_refused():
  flat = tf.ones([4])
  with pytest.raises(ValueError, match='takes'):
    returns.lambda_return(flat, flat, flat, flat)
