"""What training takes of a stored piece."""

import numpy as np
import pytest

from dv3.replay import context


def piece(rng, steps):
  return {
      'obs': rng.normal(size=(2, steps, 3)),
      'reward': rng.normal(size=(2, steps)),
      'is_first': rng.random((2, steps)) < 0.3,
      'action/a': rng.integers(1, 9, (2, steps)),
      'latent/x': rng.normal(size=(2, steps, 4))}


@pytest.mark.parametrize('amount', [1, 2, 5])
def test_first_piece_starts_from_the_stored_latent(amount):
  data = piece(np.random.default_rng(0), 6 + amount)
  carry = {'latent/x': np.ones((2, 4))}
  batch = context.apply(data, carry, 0, length=6, context=amount)
  assert set(batch) == {
      'obs', 'reward', 'is_first', 'prev_action/a', 'latent/x'}
  np.testing.assert_array_equal(
      batch['latent/x'], data['latent/x'][:, amount - 1])
  np.testing.assert_array_equal(
      batch['prev_action/a'], data['action/a'][:, amount - 1: -1])
  np.testing.assert_array_equal(batch['obs'], data['obs'][:, amount:])
  np.testing.assert_array_equal(batch['is_first'], data['is_first'][:, amount:])


def test_later_pieces_start_from_the_carry():
  data = piece(np.random.default_rng(0), 5)
  carry = {'latent/x': np.ones((2, 4))}
  batch = context.apply(data, carry, 1, length=4, context=1)
  np.testing.assert_array_equal(batch['latent/x'], carry['latent/x'])
  batch = context.apply(data, carry, np.array([2, 0]), length=4, context=1)
  np.testing.assert_array_equal(
      batch['latent/x'], [np.ones(4), data['latent/x'][1, 0]])


def test_without_context_the_first_action_is_zero_and_no_latent_is_used():
  data = piece(np.random.default_rng(0), 4)
  batch = context.apply(
      data, {'latent/x': np.ones((2, 4))}, 1, length=4, context=0)
  assert 'latent/x' not in batch
  np.testing.assert_array_equal(batch['prev_action/a'][:, 0], 0)
  np.testing.assert_array_equal(
      batch['prev_action/a'][:, 1:], data['action/a'][:, :-1])


def test_annotation_leaves_what_is_stored():
  is_first = np.array([[False, False, True, False, True]])
  is_last = np.array([[True, False, False, False, False]])
  first, last = context.annotate(is_first, is_last)
  np.testing.assert_array_equal(first, [[1, 0, 1, 0, 1]])
  np.testing.assert_array_equal(last, [[1, 1, 0, 1, 0]])
  assert not is_first[0, 0] and not is_last[0, 1]
