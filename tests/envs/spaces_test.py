"""Spaces of every kind become entries, and entries become actions."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gym_spaces

from dv3 import errors
from dv3 import types
from dv3.envs import spaces
from dv3.replay import replay as replay_lib


@pytest.mark.parametrize('dtype', [
    np.bool_, np.int8, np.int32, np.int64, np.uint16, np.float16, np.float32,
    np.float64])
@pytest.mark.parametrize('shape', [(), (3,), (2, 3)])
def test_numbers_of_any_dtype_become_float32(dtype, shape):
  space = gym_spaces.Box(0, 1, shape, dtype)
  spec = spaces.observation_specs(space)['observation']
  assert spec.shape == shape and spec.dtype == 'float32'
  assert spec.low == (0.0,) * spec.size and spec.high == (1.0,) * spec.size
  batch = np.ones((4, *shape), dtype)
  flat = spaces.flatten(space, batch, 'observation')['observation']
  assert flat.dtype == np.float32 and flat.shape == (4, *shape)
  assert (flat == 1).all()


@pytest.mark.parametrize('shape, image', [
    ((4, 5, 3), True), ((4, 5, 1), True), ((4, 5), True), ((4,), False),
    ((2, 4, 5, 3), False)])
def test_bytes_stay_bytes_where_they_are_images(shape, image):
  space = gym_spaces.Box(0, 255, shape, np.uint8)
  spec = spaces.observation_specs(space)['observation']
  assert spec.is_image is image
  flat = spaces.flatten(space, np.full((2, *shape), 255, np.uint8), 'x')['x']
  assert flat.dtype == spec.dtype == ('uint8' if image else 'float32')
  assert (flat == 255).all()


def test_bounds_are_of_each_element_or_of_all_or_absent():
  low = np.arange(60, dtype=np.float32)
  high = low + 3
  spec = spaces.observation_specs(gym_spaces.Box(low, high))['observation']
  np.testing.assert_array_equal(spec.low, low)
  np.testing.assert_array_equal(spec.high, high)
  low, high = (np.tile(x, 2) for x in (low, high))
  spec = spaces.observation_specs(gym_spaces.Box(low, high))['observation']
  assert (spec.low, spec.high) == ((0.0,), (62.0,))
  half = gym_spaces.Box(np.float32([0, -np.inf]), np.float32([1, 1]))
  assert spaces.observation_specs(half)['observation'].low is None


def test_class_indices_count_from_zero():
  space = gym_spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, -1], [0, 7]])
  spec = spaces.observation_specs(space)['observation']
  assert spec.shape == (2, 2) and spec.classes == (2, 3, 4, 5)
  value = np.array([[[2, -1], [3, 11]]])
  flat = spaces.flatten(space, value, 'x')['x']
  np.testing.assert_array_equal(flat, [[[1, 0], [3, 4]]])
  back = spaces.unflatten_action(space, {'action': flat[0]})
  np.testing.assert_array_equal(back, value[0])


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_ends_of_the_range_are_the_bounds_exactly(dtype):
  rng = np.random.default_rng(0)
  low = rng.normal(size=1000).astype(dtype)
  high = (low + rng.uniform(size=1000) * 3).astype(dtype)
  space = gym_spaces.Box(low, high, dtype=dtype)
  for number, bound in ((1, high), (-1, low), (5, high), (-5, low)):
    action = spaces.unflatten_action(
        space, {'action': np.full(1000, number, np.float32)})
    assert space.contains(action)
    np.testing.assert_allclose(action, bound, rtol=1e-6, atol=1e-6)


def test_whole_numbers_are_rounded():
  action = lambda space, number: spaces.unflatten_action(
      space, {'action': np.float32(number)})
  switch = gym_spaces.Box(0, 1, (), np.bool_)
  assert not action(switch, -0.4) and action(switch, 0.4)
  gear = gym_spaces.Box(-2, 2, (), np.int64)
  assert [int(action(gear, x)) for x in (-1, -0.3, 0.3, 1)] == [-2, -1, 1, 2]
  assert gear.contains(action(gear, 0.1))


def test_nested_actions_come_back_in_their_nest():
  space = gym_spaces.Tuple([
      gym_spaces.Discrete(3, start=-1),
      gym_spaces.Dict({
          'arm': gym_spaces.Box(-2, 4, (2,), np.float64),
          'grips': gym_spaces.Tuple([
              gym_spaces.MultiBinary((2, 2)), gym_spaces.Discrete(2)])})])
  specs = spaces.action_specs(space)
  assert list(specs) == [
      'action/0', 'action/1/arm', 'action/1/grips/0', 'action/1/grips/1']
  assert specs['action/1/grips/0'].classes == (2, 2, 2, 2)
  action = spaces.unflatten_action(space, {
      'action/0': np.int32(0), 'action/1/arm': np.float32([-0.5, 0.5]),
      'action/1/grips/0': np.int32([[0, 1], [1, 0]]),
      'action/1/grips/1': np.int32(1)})
  assert space.contains(action)
  assert action[0] == -1 and action[1]['grips'][1] == 1
  np.testing.assert_allclose(action[1]['arm'], [-0.5, 2.5])
  np.testing.assert_array_equal(action[1]['grips'][0], [[0, 1], [1, 0]])


def test_keys_of_a_nest_that_collide_are_refused():
  space = gym_spaces.Dict({
      'a/b': gym_spaces.Discrete(2),
      'a': gym_spaces.Dict({'b': gym_spaces.Discrete(3)})})
  with pytest.raises(errors.UserError, match="'a/b'.*rename"):
    spaces.observation_specs(space)


@pytest.mark.parametrize('bad', [
    gym_spaces.Sequence(gym_spaces.Discrete(2)),
    gym_spaces.Graph(gym_spaces.Discrete(2), None),
    gym_spaces.OneOf([gym_spaces.Discrete(2)]),
    gym_spaces.Box(0, 1, (0,)), gym_spaces.Dict()])
def test_what_no_entry_can_hold_is_refused(bad: gymnasium.Space):
  with pytest.raises(errors.UserError, match='wrapper'):
    spaces.observation_specs(bad)


@pytest.mark.parametrize('key', [
    'is_first', 'action', 'latent', 'stepid', 'item', 'prev_action',
    'prev_action/arm'])
def test_names_that_replay_needs_are_refused(key):
  with pytest.raises(errors.UserError, match=f'{key}.*rename.*Wrapper'):
    spaces.observation_specs(gym_spaces.Dict({
        key: gym_spaces.Box(0, 1, (2,))}))


def test_every_entry_that_replay_adds_to_batches_is_reserved():
  own = {'picture': types.Spec((2, 2), 'uint8')}
  box = types.Spec((2,), 'float32')
  stored = replay_lib.Replay(
      {**own, 'action/arm': box, 'reward': types.Spec((), 'float32'),
       **dict.fromkeys(
           ('is_first', 'is_last', 'is_terminal'), types.Spec((), 'bool')),
       'latent/deter': box},
      capacity=4, length=2, context=1)
  for _ in range(3):
    stored.add({
        name: np.zeros((1, *spec.shape), spec.dtype)
        for name, spec in stored.specs.items()}, np.zeros(1, np.int64))
  names = {name.split('/')[0] for name in stored.sample(1)}
  assert names - set(own) <= set(types.RESERVED)
