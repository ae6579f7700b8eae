"""The memory task and the grid world."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import env_checker

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
  env = atari(Raw(), max_frames=8)
  env.reset()
  assert env.step(0)[2:4] == (False, False)
  assert env.step(0)[2:4] == (False, True)


def test_atari_pong_has_its_own_six_actions_in_64_pixels():
  env = registry.get('env', 'atari')()
  obs, _ = env.reset(seed=0)
  assert env.action_space.n == 6
  assert obs.shape == (64, 64, 3) and obs.dtype == np.uint8
  again, _ = registry.get('env', 'atari')().reset(seed=0)
  np.testing.assert_array_equal(obs, again)


def test_atari_names_the_nearest_game():
  from dv3 import errors
  with pytest.raises(errors.UserError, match='did you mean pong'):
    registry.get('env', 'atari')(game='pongg')
