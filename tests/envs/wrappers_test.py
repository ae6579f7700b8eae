"""What every environment is wrapped in, and gymnasium's environments."""

import gymnasium
import numpy as np
import pytest

from dv3 import errors
from dv3 import registry
from dv3.envs import wrappers


class Counter(gymnasium.Env):
  """Observes its step and the seed of its reset; ends at step `length`."""

  observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
  action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

  def __init__(self, length=7, terminate=True):
    self.length = length
    self.terminate = terminate

  def reset(self, *, seed=None, options=None):
    self.count, self.seed = 0, seed
    return np.array([0.0, seed or 0.0]), {}

  def step(self, action):
    assert self.count < self.length, 'stepped beyond the end'
    self.count += 1
    done = self.count == self.length
    return (
        np.array([self.count, self.seed or 0], float), 2.0 ** self.count,
        done and self.terminate, done and not self.terminate, {})


def test_action_repeat_sums_rewards_and_stops_at_the_end():
  env = wrappers.ActionRepeat(Counter(), 3)
  env.reset()
  rewards = []
  for _ in range(3):
    obs, reward, terminated, truncated, _ = env.step(np.zeros(1))
    rewards.append(reward)
  assert rewards == [2 + 4 + 8, 16 + 32 + 64, 128]
  assert obs[0] == 7 and terminated and not truncated
  with pytest.raises(errors.UserError, match='action_repeat'):
    wrappers.ActionRepeat(Counter(), 0)


def test_seeds_depend_on_run_environment_and_episode_only():
  def seeds(seed, index, episode=0, count=4):
    env = wrappers.SeededResets(
        Counter(), seed=seed, index=index, episode=episode)
    return [env.reset()[0][1] for _ in range(count)]
  first = seeds(1, 0)
  assert first == seeds(1, 0)
  assert seeds(1, 0, episode=2, count=2) == first[2:]
  every = first + seeds(1, 1) + seeds(2, 0)
  assert len(set(every)) == len(every)


def test_resume_repeats_the_recorded_steps():
  env = wrappers.Resume(Counter(), [np.zeros(1)] * 4)
  obs, info = env.reset(seed=3)
  assert list(obs) == [4, 3] and 'resume/ended' not in info
  assert env.reset(seed=5)[0][0] == 0  # Only the first episode is continued.


@pytest.mark.parametrize('terminate', [True, False])
def test_resume_tells_of_an_episode_that_ended_early(terminate):
  env = wrappers.Resume(Counter(3, terminate), [np.zeros(1)] * 4)
  obs, info = env.reset()
  assert obs[0] == 3 and info['resume/ended']


def test_auto_reset_uses_one_step_for_the_reset():
  env = wrappers.AutoReset(Counter(2))
  env.reset()
  seen = [env.step(np.zeros(1))[:4] for _ in range(4)]
  assert [x[0][0] for x in seen] == [1, 2, 0, 1]
  assert [x[1] for x in seen] == [2, 4, 0, 2]
  assert [x[2] for x in seen] == [False, True, False, False]
  env.ended = True  # The episode is abandoned.
  assert env.step(np.zeros(1))[0][0] == 0


def test_an_environment_that_cannot_be_built_again_is_one_error():
  made = []
  class Broken(Counter):
    def step(self, action):
      raise RuntimeError('lost connection')
  def make():
    made.append(1)
    if len(made) > 1:
      raise OSError('no server')
    return Broken()
  env = wrappers.CrashGuard(make, limit=3)
  env.reset()
  with pytest.raises(errors.UserError, match='4 times.*no server'):
    env.step(np.zeros(1))


def test_whole_steps_between_crashes_reset_their_count():
  class Flaky(Counter):
    def step(self, action):
      if self.count == 2:
        raise RuntimeError('flaky')
      return super().step(action)
  env = wrappers.AutoReset(wrappers.CrashGuard(Flaky, limit=1))
  env.reset()
  restarts = [
      env.step(np.zeros(1))[4].get('log/restarts_sum') for _ in range(12)]
  assert restarts == [None, None, 1.0, None] * 3


def test_time_limit_counts_repeated_steps_and_truncates():
  env = registry.get('env', 'gymnasium')(
      id='Pendulum-v1', action_repeat=2, time_limit=5)
  env.reset(seed=0)
  ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(5)]
  assert ends == [(False, False)] * 4 + [(False, True)]


class Painter(Counter):
  """Draws a picture of two halves, the right one as bright as its step."""

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 1}

  def __init__(self, render_mode=None):
    super().__init__()
    self.render_mode = render_mode

  def render(self):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 20:] = 10 * self.count
    return image


def test_pictures_are_observed_in_any_size(monkeypatch):
  monkeypatch.setitem(
      gymnasium.registry, 'Painter-v0',
      gymnasium.envs.registration.EnvSpec('Painter-v0', Painter))
  env = registry.get('env', 'gymnasium')(
      id='Painter-v0', image=(10, 8), action_repeat=3)
  obs, _ = env.reset(seed=0)
  assert env.observation_space.shape == obs.shape == (10, 8, 3)
  assert obs.dtype == np.uint8 and not obs.any()
  obs, *_ = env.step(np.zeros(1, np.float32))
  assert (obs[:, :2] == 0).all() and (obs[:, 6:] == 30).all()


def test_names_of_gymnasium_environments_are_suggested():
  make = registry.get('env', 'gymnasium')
  with pytest.raises(errors.UserError, match='did you mean Pendulum-v1'):
    make(id='Pendulm-v1')
  with pytest.raises(errors.UserError, match='package.module:Name-v0'):
    make(id='no_such_module:Thing-v0')
  with pytest.raises(errors.UserError, match=r'dv3\[atari\]'):
    make(id='ALE/NoSuchGame-v5')


def test_a_registered_environment_lacks_a_package(monkeypatch):
  def make(*args, **kwargs):
    raise ModuleNotFoundError("No module named 'imageio'", name='imageio')
  monkeypatch.setattr(gymnasium, 'make', make)
  with pytest.raises(
      errors.UserError, match=r'needs.*imageio.*pip install "dv3\[mujoco\]"'):
    registry.get('env', 'gymnasium')(id='Humanoid-v5')


class Shows(gymnasium.Env):
  """Observes what it was given, in a space of this dtype."""

  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, value, dtype):
    self.value = value
    self.observation_space = gymnasium.spaces.Dict({
        'x': gymnasium.spaces.Box(0, 1, np.shape(value), dtype)})

  def reset(self, *, seed=None, options=None):
    return {'x': self.value}, {}


@pytest.mark.parametrize('value, dtype, message', [
    (np.full((2, 2), 0.7), np.uint8,
     "'x' is float64.*space is uint8.*times 255"),
    (np.ones(2, np.float32), np.int64, "'x' is float32.*space is int64"),
    (np.array([0, 256]), np.uint8, "'x' has 256.*uint8 cannot hold"),
    ([-1], np.uint8, "'x' has -1"), ([2], bool, "'x' has 2")])
def test_numbers_that_an_integer_dtype_would_change_are_refused(
    value, dtype, message):
  with pytest.raises(ValueError, match=message):
    wrappers.Checked(Shows(value, dtype)).reset()


@pytest.mark.parametrize('value, dtype', [
    (np.array([7]), np.float32), (np.array([255]), np.uint8),
    ([1], bool), (True, np.int8)])
def test_numbers_that_the_dtype_holds_are_let_through(value, dtype):
  wrappers.Checked(Shows(value, dtype)).reset()
