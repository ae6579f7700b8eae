"""The optional suites: contract, and what a missing one says."""

import importlib.util
import os
import pathlib
import re
import tomllib

import gymnasium
import numpy as np
import pytest

from dv3 import errors
from dv3 import registry
from dv3.config import files
from dv3.envs import extras
from dv3.envs import spaces

CASES = {  # component: (module, arguments, seeds its resets)
    'env.bsuite': ('bsuite', {'id': 'catch/0'}, False),
    'env.crafter': ('crafter', {}, True),
    'env.dmc': ('dm_control', {'task': 'cartpole_balance'}, True),
    'env.memory_maze': ('memory_maze', {}, True),
    'env.minatar': ('minatar', {'game': 'breakout'}, True),
    'env.minigrid': ('minigrid', {}, True),
    'env.miniworld': ('miniworld', {}, True),
    'env.procgen': ('envpool', {'game': 'maze'}, True),
    'env.vizdoom': ('vizdoom', {}, True)}

IDS = {  # gymnasium id of a shipped task: (module, arguments, seeded)
    # Of gymnasium's extra, like MuJoCo, which dm_control brings too.
    'Humanoid-v5': ('imageio', {}, True),
    'flappy_bird_gymnasium:FlappyBird-v0': (
        'flappy_bird_gymnasium', {'use_lidar': False}, True),
    'gymnasium_robotics:AdroitHandHammer-v1': (
        'gymnasium_robotics', {}, True),
    'highway_env:intersection-v0': ('highway_env', {}, True),
    'popgym:popgym-RepeatPreviousEasy-v0': ('popgym', {}, True)}


@pytest.mark.parametrize('component', CASES)
def test_keeps_the_contract(component, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  module, kwargs, seeded = CASES[component]
  keeps_the_contract(
      lambda: registry.get('env', component[4:])(**kwargs), module, seeded)
  assert not list(tmp_path.iterdir())  # Nothing is left where it ran.


# RLlib's example has intersection-v0, of which there is a newer version.
@pytest.mark.filterwarnings('ignore:.*out of date:DeprecationWarning')
@pytest.mark.parametrize('id', IDS)
def test_gymnasium_ids_keep_the_contract(id):
  module, kwargs, seeded = IDS[id]
  keeps_the_contract(
      lambda: registry.get('env', 'gymnasium')(id=id, kwargs=kwargs), module,
      seeded)


def keeps_the_contract(make, module, seeded):
  if importlib.util.find_spec(module) is None:
    with pytest.raises(errors.UserError, match=r'-m pip install "dv3\['):
      make()
    pytest.skip(f'{module} is not installed; make test-suites')
  env = make()
  assert spaces.observation_specs(env.observation_space)
  assert spaces.action_specs(env.action_space)
  runs = []
  for _ in range(2):
    obs, _ = env.reset(seed=7)
    env.action_space.seed(3)
    seen = [obs]
    for _ in range(20):
      assert env.observation_space.contains(obs), obs
      action = env.action_space.sample()
      obs, reward, terminated, truncated, _ = env.step(action)
      assert np.isfinite(float(reward))
      seen.append(obs)
      if terminated or truncated:
        break
    runs.append(seen)
  if seeded:
    flat = lambda x: np.concatenate([
        np.ravel(np.asarray(v, np.float64)) for v in (
            x.values() if isinstance(x, dict) else [x])])
    for a, b in zip(*runs, strict=True):
      np.testing.assert_array_equal(flat(a), flat(b))
  env.close()


class Episode:
  """A dm_env environment that ends as it is told."""

  def __init__(self, discount):
    self.discount = discount

  def _step(self, last, reward, discount):
    class Step:
      observation = {'x': 1.5}
    Step.reward, Step.discount = reward, discount
    Step.last = lambda self: last
    return Step()

  def observation_spec(self):
    class Array:
      shape, dtype = (), np.dtype('float64')
    return {'x': Array()}

  def action_spec(self):
    class Discrete:
      num_values = 3
    return Discrete()

  def reset(self):
    return self._step(False, None, None)

  def step(self, action):
    del action
    return self._step(True, 2.0, self.discount)


@pytest.mark.parametrize('discount, terminated', [(0.0, True), (1.0, False)])
def test_dm_env_episodes_end_by_their_discount(discount, terminated):
  from dv3.envs import dm
  env = dm.DMEnv(Episode(discount))
  obs, _ = env.reset(seed=0)
  assert isinstance(env.action_space, gymnasium.spaces.Discrete)
  np.testing.assert_array_equal(obs['x'], np.float32([1.5]))
  _, reward, *ends, _ = env.step(1)
  assert reward == 2.0 and ends == [terminated, not terminated]


@pytest.mark.parametrize('task, expected', [
    ('point_mass_easy', ('point_mass', 'easy')),
    ('humanoid_CMU_run', ('humanoid_CMU', 'run')),
    ('humanoid_run', ('humanoid', 'run')),
    ('ball_in_cup_catch', ('ball_in_cup', 'catch')),
    ('cup_catch', ('ball_in_cup', 'catch')),
    ('finger_turn_easy', ('finger', 'turn_easy'))])
def test_control_tasks_are_found_by_their_names(task, expected, monkeypatch):
  made = []
  class Suite:
    ALL_TASKS = (
        ('point_mass', 'easy'), ('humanoid', 'run'), ('humanoid_CMU', 'run'),
        ('ball_in_cup', 'catch'), ('finger', 'turn_easy'))

    def load(self, domain, name):
      made.append((domain, name))
      return Episode(1.0)

  monkeypatch.setattr(extras, 'load', lambda *args: Suite())
  registry.get('env', 'dmc')(task=task)
  assert made == [expected]
  with pytest.raises(errors.UserError, match='not one of ball_in_cup_catch, '):
    registry.get('env', 'dmc')(task='point_run')


def test_the_extra_suites_has_what_tasks_need():
  named = {
      extra for name in files.shipped_names() if name.startswith('task/')
      for extra in re.findall(
          r'dv3\[([\w-]+)\]',
          files.read(os.path.join(files.shipped_folder(), name)))}
  root = pathlib.Path(__file__).absolute().parents[2]
  extras = tomllib.loads((root / 'pyproject.toml').read_text())[
      'project']['optional-dependencies']
  suites = ','.join(
      re.findall(r'dv3\[([\w,-]+)\]', ' '.join(extras['suites']))).split(',')
  assert named and named <= set(suites) <= set(extras)
  # As packages announce them; pip before 23.3 finds no other spelling.
  assert [name for name in extras if re.sub('[-_.]+', '-', name) != name] == []
