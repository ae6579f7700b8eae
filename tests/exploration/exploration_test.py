"""What is done to actions while collecting, against its definition."""

import numpy as np
import pytest

from dv3 import errors
from dv3 import registry
from dv3 import types

SPECS = {
    'action/move': types.Spec((2,), 'float32'),
    'action/press': types.Spec((), 'int32', (4,)),
    'action/keys': types.Spec((2,), 'int32', (2, 3))}
N = 20_000
ACTIONS = {
    'action/move': np.full((N, 2), 0.5, np.float32),
    'action/press': np.full(N, 1, np.int32),
    'action/keys': np.ones((N, 2), np.int32)}


def make(name, **kwargs):
  return registry.get('exploration', name)(
      action_spec=SPECS, seed=0, **kwargs)


def test_nothing_changes_without_noise():
  found = make('noise', amount=0.0)(ACTIONS, 0)
  for key, value in ACTIONS.items():
    np.testing.assert_array_equal(found[key], value)


def test_classes_are_uniform_as_often_as_said():
  found = make('noise', amount=0.2)(ACTIONS, 0)
  for value, classes in (
      (found['action/press'], 4), (found['action/keys'][:, 0], 2),
      (found['action/keys'][:, 1], 3)):
    shares = np.bincount(value, minlength=classes) / N
    expected = np.full(classes, 0.2 / classes)
    expected[1] += 0.8
    np.testing.assert_allclose(shares, expected, atol=0.015)
  # Elements are drawn one by one.
  both = (found['action/keys'] == 1).all(-1).mean()
  np.testing.assert_allclose(both, (1 - 0.1) * (1 - 0.2 * 2 / 3), atol=0.015)


def test_noise_is_normal_and_clipped():
  move = make('noise', amount=0.1)(ACTIONS, 0)['action/move']
  np.testing.assert_allclose(move.mean(0), 0.5, atol=0.01)
  np.testing.assert_allclose(move.std(0), 0.1, atol=0.005)
  assert abs(np.corrcoef(move.T)[0, 1]) < 0.05
  wide = make('noise', amount=1.0)(ACTIONS, 0)['action/move']
  # The normal's share above (1 - 0.5) / 1, from a table.
  np.testing.assert_allclose((wide == 1.0).mean(), 0.3085, atol=0.015)


@pytest.mark.parametrize('env_steps, amount', [
    (0, 0.8), (50, 0.5), (100, 0.2), (10 ** 6, 0.2)])
def test_the_amount_moves_in_a_straight_line(env_steps, amount):
  noise = make('noise', amount=0.8, final_amount=0.2, decay_env_steps=100)
  press = noise(ACTIONS, env_steps)['action/press']
  np.testing.assert_allclose(
      (press == 1).mean(), 1 - amount * 3 / 4, atol=0.015)


@pytest.mark.parametrize('name', ['noise', 'random'])
def test_numbers_depend_on_seed_and_step_alone(name):
  first = make(name)
  first(ACTIONS, 40)
  other = registry.get('exploration', name)(action_spec=SPECS, seed=1)
  for key in ACTIONS:
    np.testing.assert_array_equal(
        first(ACTIONS, 60)[key], make(name)(ACTIONS, 60)[key])
    assert np.any(first(ACTIONS, 60)[key] != first(ACTIONS, 61)[key])
    assert np.any(first(ACTIONS, 60)[key] != other(ACTIONS, 60)[key])


def test_random_actions_are_uniform():
  found = make('random')(ACTIONS, 5)
  for low in np.arange(-1.0, 1.0, 0.5):
    inside = (found['action/move'] >= low) & (found['action/move'] < low + 0.5)
    np.testing.assert_allclose(inside.mean(), 0.25, atol=0.015)
  np.testing.assert_allclose(
      np.bincount(found['action/press']) / N, 0.25, atol=0.015)


@pytest.mark.parametrize('numbers, words', [
    ({'amount': 1.5}, 'exploration.noise.amount is 1.5; it is in [0, 1]'),
    ({'amount': -0.1}, 'exploration.noise.amount is -0.1'),
    ({'final_amount': 2.0, 'decay_env_steps': 5}, 'noise.final_amount is 2.0'),
    ({'final_amount': 0.1}, 'decay_env_steps 0; a decay needs both'),
    ({'decay_env_steps': 9}, 'final_amount is None and decay_env_steps 9')])
def test_wrong_numbers_are_one_clear_line(numbers, words):
  with pytest.raises(errors.UserError) as caught:
    make('noise', **numbers)
  assert words in str(caught.value)
