"""The memory task and the grid world."""

import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import env_checker

from dv3 import errors
from dv3 import registry


def play(env, act, episodes, seed=0):
  scores = []
  for episode in range(episodes):
    obs, _ = env.reset(seed=seed + episode)
    state, score, done = None, 0.0, False
    while not done:
      action, state = act(obs, state)
      obs, reward, terminated, truncated, _ = env.step(action)
      score += reward
      done = terminated or truncated
    scores.append(score)
  return scores


def remember(obs, state):
  state = int(np.argmax(obs[:-1])) if state is None else state
  return state, state


def test_memory_pays_who_remembers_and_no_one_else():
  env = registry.get('env', 'memory')(length=5, cues=3)
  assert play(env, remember, 30) == [1.0] * 30
  forgetful = play(env, lambda obs, _: (int(np.argmax(obs[:-1])), None), 300)
  assert 0.2 < np.mean(forgetful) < 0.47  # One of three, by luck.


def test_memory_shows_the_cue_at_the_first_step_only():
  env = registry.get('env', 'memory')(length=3)
  obs, _ = env.reset(seed=1)
  assert obs[:-1].sum() == 1 and obs[-1] == 1
  obs, reward, terminated, *_ = env.step(0)
  assert not obs[:-1].any() and reward == 0 and not terminated
  env.step(0)
  assert env.step(0)[2]


@pytest.mark.parametrize('name, kwargs', [
    ('memory', {'cues': 1}), ('memory', {'length': 1}),
    ('gridworld', {'size': 8}), ('gridworld', {'length': 0}),
    ('atari', {'repeat': 0}), ('atari', {'noops': -1}),
    ('atari', {'size': (0, 64)}), ('atari', {'lives': 'three'}),
    ('atari', {'resize': 'cubic'})])
def test_impossible_numbers_are_the_users_error(name, kwargs):
  with pytest.raises(errors.UserError, match=f'env.{name}'):
    registry.get('env', name)(**kwargs)


def test_gridworld_reaches_the_goal_and_draws_it():
  env = registry.get('env', 'gridworld')()
  obs, _ = env.reset(seed=3)
  assert obs.shape == (32, 32, 3)
  colours = {tuple(x) for x in obs.reshape(-1, 3)}
  assert {(60, 200, 80), (70, 110, 240)} <= colours
  def walk(obs, _):
    (row, column), (y, x) = env._agent, env._goal
    if row != y:
      return (1 if row < y else 0), None
    return (3 if column < x else 2), None
  assert play(env, walk, 20) == [1.0] * 20
  env.reset(seed=0)
  env._agent, env._goal = (0, 0), (2, 2)
  ends = [env.step(0)[2:4] for _ in range(20)]
  assert ends[-1] == (False, True) and not any(any(x) for x in ends[:-1])


@pytest.mark.parametrize('name', ['memory', 'gridworld'])
def test_gymnasium_accepts_them(name):
  env = registry.get('env', name)()
  env_checker.check_env(env, skip_render_check=True)


class Raw(gymnasium.Env):
  """Frames whose brightness is their number in the episode."""

  observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, bright_first=0):
    self.bright_first = bright_first
    self.count = 0
    self.resets = 0
    self.actions = []
    self.ale = self
    self.left = 3

  def lives(self):
    return self.left

  def reset(self, *, seed=None, options=None):
    self.count = 0
    self.resets += 1
    return self._frame(self.bright_first), {}

  def step(self, action):
    self.count += 1
    self.actions.append(int(action))
    return self._frame(self.count), 1.0, False, False, {}

  def _frame(self, value):
    return np.full((8, 8, 3), value, np.uint8)


def atari(raw, **kwargs):
  from dv3.envs import atari as atari_lib
  options = {
      'repeat': 4, 'pooling': 2, 'noops': 0, 'lives': 'unused', 'grey': False,
      'size': (4, 6), 'resize': 'area', 'max_frames': 10 ** 6,
      'clip_reward': False}
  return atari_lib.Atari(raw, **{**options, **kwargs})


def test_atari_repeats_and_pools_the_last_two_frames():
  raw = Raw()
  env = atari(raw)
  obs, _ = env.reset(seed=0)
  assert obs.shape == (4, 6, 3) and obs.max() == 0
  obs, reward, *_ = env.step(1)
  assert reward == 4.0 and raw.actions == [1] * 4
  assert (obs == 4).all()
  raw.step = lambda action: (
      raw._frame(200 if len(raw.actions) == 5 else 5), 0.0, False, False,
      raw.actions.append(action) or {})
  assert (env.step(0)[0] == 5).all()  # 200 was the third last frame.


def test_atari_clears_the_pool_at_reset():
  raw = Raw()
  env = atari(raw)
  env.reset(seed=0)
  for _ in range(10):
    env.step(1)
  obs, _ = env.reset(seed=1)
  assert obs.max() == 0


def test_atari_noops_repeat_with_the_seed():
  counts = []
  for seed in (0, 1, 2, 3, 0):
    raw = Raw()
    atari(raw, noops=30).reset(seed=seed)
    counts.append(len(raw.actions))
  assert counts[0] == counts[-1] and len(set(counts)) > 1
  assert max(counts) <= 30


def test_atari_lives_and_length():
  raw = Raw()
  env = atari(raw, lives='discount')
  env.reset(seed=0)
  raw.left = 2
  assert env.step(0)[2]
  env.reset()
  assert raw.resets == 1  # The game goes on.
  raw.left = 0  # The last one: the game itself says when it is over.
  assert not env.step(0)[2]
  raw = Raw()
  env = atari(raw, lives='reset')
  env.reset(seed=0)
  raw.left = 2
  assert env.step(1)[1:3] == (1.0, True)  # No frame after the loss.
  env.reset()
  assert raw.resets == 2
  env = atari(Raw(), max_frames=8)
  env.reset()
  assert env.step(0)[2:4] == (False, False)
  assert env.step(0)[2:4] == (False, True)


def test_atari_clips_rewards_and_weighs_grey():
  raw = Raw()
  env = atari(raw, clip_reward=True, grey=True)
  env.reset(seed=0)
  raw._frame = lambda value: np.full((8, 8, 3), (10, 100, 200), np.uint8)
  obs, reward, *_ = env.step(0)
  assert reward == 1.0  # Not the 4 of four frames.
  assert obs.shape == (4, 6, 1)
  assert (obs == round(0.299 * 10 + 0.587 * 100 + 0.114 * 200)).all()


def test_atari_bilinear_filter_is_as_wide_as_the_reduction():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (10, 16, 3)).astype(np.uint8)
  raw = Raw()
  raw._frame = lambda value: image
  env = atari(raw, resize='bilinear', size=(4, 5))
  def weights(old, new):
    scale = old / new
    centers = (np.arange(new) + 0.5)[:, None] * scale
    found = np.maximum(0, 1 - abs(np.arange(old) + 0.5 - centers) / scale)
    return found / found.sum(1, keepdims=True)
  expected = np.einsum(
      'yi,xj,ijc->yxc', weights(10, 4), weights(16, 5), image)
  obs, _ = env.reset(seed=0)
  assert np.abs(obs - expected).max() <= 1.5  # It rounds twice.


def test_atari_without_its_package_names_the_extra(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
      importlib.util, 'find_spec',
      lambda name, *rest: None if name == 'ale_py' else find(name, *rest))
  with pytest.raises(errors.UserError, match=r'-m pip install "dv3\[atari\]"'):
    registry.get('env', 'atari')()


def test_atari_pong_has_its_own_six_actions_in_64_pixels():
  env = registry.get('env', 'atari')()
  obs, _ = env.reset(seed=0)
  assert env.action_space.n == 6
  assert obs.shape == (64, 64, 3) and obs.dtype == np.uint8
  again, _ = registry.get('env', 'atari')().reset(seed=0)
  np.testing.assert_array_equal(obs, again)


@pytest.mark.parametrize('sticky, probability', [(False, 0.0), (True, 0.25)])
def test_atari_sticky_actions_and_all_actions(sticky, probability):
  env = registry.get('env', 'atari')(sticky=sticky, full_actions=True)
  assert env.action_space.n == 18
  ale = env.unwrapped._raw.ale
  assert ale.getFloat('repeat_action_probability') == probability
  assert ale.getInt('frame_skip') == 1  # The wrapper repeats and pools.


@pytest.mark.parametrize('resize', ['area', 'nearest'])
def test_atari_resizes_as_it_is_told(resize):
  image = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
  raw = Raw()
  raw._frame = lambda value: image
  obs, _ = atari(raw, resize=resize, size=(4, 6)).reset(seed=0)
  if resize == 'nearest':
    np.testing.assert_array_equal(obs, image[::2, ::2])
  else:  # Every pixel is the mean of four.
    expected = image.reshape(4, 2, 6, 2, 3).mean((1, 3))
    assert np.abs(obs - expected).max() <= 0.5


def test_atari_names_the_nearest_game():
  with pytest.raises(errors.UserError, match='did you mean pong'):
    registry.get('env', 'atari')(game='pongg')
