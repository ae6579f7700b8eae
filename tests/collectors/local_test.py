"""The local collector: what it hands on, and exact resume."""

import os
import pickle
import subprocess
import sys
import tracemalloc

import gymnasium
import numpy as np
import pytest

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.collectors import local
from dv3.collectors import recording
from dv3.collectors import worker
from dv3.envs import spaces
from dv3.envs import wrappers


class Policy:
  """Deterministic: acts by the call's number, carries a counter."""

  def initial(self, num_envs):
    return {'count': np.zeros(num_envs, np.int64)}

  def __call__(self, obs, is_first, state, call):
    count = np.where(is_first, 0, state['count']) + 1
    actions = {'action': ((call + np.arange(len(count))) % 2).astype(np.int32)}
    return actions, {'latent/count': count.astype(np.float32)}, {
        'count': count}


class Sink:
  def __init__(self):
    self.steps = []

  def __call__(self, steps, workers):
    self.steps.append({
        k: np.array(v) for k, v in steps.items()} | {'worker': workers})

  def column(self, name, env):
    return [x[name][env] for x in self.steps]


def recipe(**kwargs):
  return types.Recipe('env', 'gymnasium', {'id': 'CartPole-v1', **kwargs})


def test_what_is_handed_on(monkeypatch):
  collector = local.LocalCollector(env=recipe(time_limit=7), num_envs=2, seed=3)
  sink = Sink()
  episodes = collector.run(Policy(), sink, 60)
  collector.close()
  assert collector.env_steps >= 60
  for env in (0, 1):
    first, last, terminal, reward, count, action = (
        np.array(sink.column(k, env)) for k in (
            'is_first', 'is_last', 'is_terminal', 'reward', 'latent/count',
            'action'))
    assert first[0]
    np.testing.assert_array_equal(first[1:], last[:-1])
    assert not terminal.any()  # Seven steps are too few to fall: truncation.
    assert (reward[first] == 0).all() and (reward[~first] == 1).all()
    assert (action[last] == 0).all()
    assert (count[first] == 1).all()
    lengths = np.flatnonzero(last)
    np.testing.assert_array_equal(np.diff(lengths), 8)
  steps = sum(2 - int(x['is_first'].sum()) for x in sink.steps)
  # The last call's step has been made but not handed on.
  assert collector.env_steps == steps + 2 - int(collector._is_first.sum())
  assert episodes and all(
      e.score == 7 and e.length == 7 and e.truncated for e in episodes)


def test_terminal_steps_are_terminal():
  collector = local.LocalCollector(env=recipe(), num_envs=1, seed=0)
  sink = Sink()
  policy = Policy()
  policy.__class__ = type('Left', (Policy,), {
      '__call__': lambda self, o, f, s, c: (
          {'action': np.zeros(1, np.int32)}, {}, s)})
  episodes = collector.run(policy, sink, 40)
  collector.close()
  assert episodes and not any(e.truncated for e in episodes)
  last = np.array(sink.column('is_last', 0))
  np.testing.assert_array_equal(np.array(sink.column('is_terminal', 0)), last)
  # The terminal observation itself is handed on: the pole has fallen.
  angles = [x[2] for x in np.array(sink.column('observation', 0))[last]]
  assert all(abs(x) > 0.2095 for x in angles)


@pytest.mark.parametrize('steps', [13, 20, 21, 22])
def test_resume_is_exact_in_the_middle_of_an_episode(steps):
  make = lambda: local.LocalCollector(env=recipe(), num_envs=2, seed=5)
  whole, first, second = Sink(), Sink(), Sink()
  collector = make()
  collector.run(Policy(), whole, steps)
  collector.run(Policy(), whole, 30)
  total = collector.env_steps
  collector.close()
  collector = make()
  collector.run(Policy(), first, steps)
  state = collector.state()
  collector.close()
  collector = make()
  collector.load(state)
  collector.run(Policy(), second, 30)
  assert collector.env_steps == total
  collector.close()
  found = first.steps + second.steps
  assert len(found) == len(whole.steps)
  for a, b in zip(whole.steps, found, strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], key)


def test_state_saved_again_right_after_loading_is_the_same():
  make = lambda: local.LocalCollector(env=recipe(), num_envs=2, seed=5)
  collector = make()
  collector.run(Policy(), Sink(), 9)
  state = collector.state()
  collector.close()
  collector = make()
  collector.load(state)
  again = collector.state()
  collector.close()
  assert len(again['policy']) == len(state['policy']) == 1
  for a, b in zip(state['policy'], again['policy'], strict=True):
    np.testing.assert_array_equal(a, b)


def test_recorded_actions_cost_their_bytes_and_come_back():
  specs = {
      'action/turn': types.Spec((), 'int32', (5,)),
      'action/arm': types.Spec((3,), 'float32')}
  rng = np.random.default_rng(0)
  rows = [
      {'action/turn': rng.integers(5, dtype=np.int32),
       'action/arm': rng.normal(size=3).astype(np.float32)}
      for _ in range(1000)]
  actions = recording.Actions(specs)
  assert not actions and actions.arrays() == {}
  tracemalloc.start()
  for row in rows:
    actions.append(row)
  size, _ = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert size < 2.2 * 1000 * (4 + 12)
  for found in (actions, recording.Actions(specs, actions.arrays()),
                pickle.loads(pickle.dumps(actions))):
    found.append(rows[0])
    assert len(found) == 1001
    for got, row in zip(found, [*rows, rows[0]], strict=True):
      for name, spec in specs.items():
        np.testing.assert_array_equal(got[name], row[name])
        assert got[name].dtype == spec.dtype


def test_states_have_the_actions_of_every_environment():
  collector = local.LocalCollector(env=recipe(), num_envs=2, seed=5)
  collector.run(Policy(), Sink(), 6)
  state = collector.state()
  collector.run(Policy(), Sink(), 2)  # A state does not change any more.
  collector.close()
  np.testing.assert_array_equal(state['actions'][0]['action'], [0, 1, 0])
  np.testing.assert_array_equal(state['actions'][1]['action'], [1, 0, 1])
  wider = local.LocalCollector(env=recipe(), num_envs=3, seed=5)
  wider.load(state)
  again = wider.state()['actions']
  wider.close()
  np.testing.assert_array_equal(again[1]['action'], [1, 0, 1])
  assert again[2] == {}


def test_episode_that_does_not_repeat_is_truncated(caplog):
  collector = local.LocalCollector(env=recipe(), num_envs=1, seed=5)
  collector.run(Policy(), Sink(), 5)
  state = collector.state()
  collector.close()
  state['obs'] = {k: v + 1 for k, v in state['obs'].items()}
  collector = local.LocalCollector(env=recipe(), num_envs=1, seed=5)
  collector.load(state)
  assert 'truncated' in caplog.text
  # A checkpoint before the first step keeps it.
  state = collector.state()
  collector.close()
  collector = local.LocalCollector(env=recipe(), num_envs=1, seed=5)
  collector.load(state)
  sink = Sink()
  episodes = collector.run(Policy(), sink, 3)
  collector.close()
  assert [(e.step, e.truncated, e.length) for e in episodes] == [
      (collector.env_steps, True, 5)]
  assert sink.steps[0]['is_last'][0] and not sink.steps[0]['is_terminal'][0]
  assert sink.steps[1]['is_first'][0] and sink.steps[1]['reward'][0] == 0


def test_evaluation_counts_whole_episodes_of_each_environment():
  collector = local.LocalCollector(env=recipe(time_limit=4), num_envs=2)
  episodes = collector.evaluate(Policy(), 5)
  collector.close()
  assert [e.worker for e in episodes] == [0, 1, 0, 1, 0]
  assert all(e.length == 4 for e in episodes)


class Fragile(gymnasium.Env):
  """Raises at its third step."""

  observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    self.count = 0
    return np.zeros(1, np.float32), {}

  def step(self, action):
    self.count += 1
    if self.count == 3:
      raise RuntimeError('broken')
    return np.full(1, self.count / 10, np.float32), 1.0, False, False, {}


def test_crash_truncates_the_episode_and_is_counted():
  env = wrappers.AutoReset(wrappers.CrashGuard(Fragile))
  env.reset()
  env.step(0)
  last, *_ = env.step(0)
  obs, reward, terminated, truncated, info = env.step(0)
  np.testing.assert_array_equal(obs, last)
  assert (reward, terminated, truncated) == (0.0, False, True)
  assert info['log/restarts_sum'] == 1.0
  assert env.step(0)[1] == 0.0  # The reset.
  assert env.step(0)[1] == 1.0


def test_crashing_without_end_is_one_clear_error():
  class Dead(Fragile):
    def reset(self, *, seed=None, options=None):
      raise RuntimeError('no display')
  with pytest.raises(errors.UserError, match='no display.*dv3-envcheck'):
    wrappers.CrashGuard(Dead, limit=2).reset()


PLUGIN = """
import os, signal, sys
import gymnasium
import numpy as np
import dv3

@dv3.register('env', 'test.process')
class Process(gymnasium.Env):
  observation_space = gymnasium.spaces.Dict({
      'pid': gymnasium.spaces.Box(0, 2 ** 40, (), np.float64),
      'group': gymnasium.spaces.Box(0, 2 ** 40, (), np.float64),
      'step': gymnasium.spaces.Box(0, 99, (), np.float32),
      'tensorflow': gymnasium.spaces.Discrete(2)})
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, *, die_at: int = 0, when: str = '', folder: str = ''):
    self.die_at, self.when, self.folder = die_at, when, folder
    if when == 'building':
      os.kill(os.getpid(), signal.SIGKILL)

  def _observe(self):
    return {
        'pid': np.float64(os.getpid()), 'group': np.float64(os.getpgid(0)),
        'step': np.float32(self.count), 'tensorflow': np.int64(
            'tensorflow' in sys.modules)}

  def reset(self, *, seed=None, options=None):
    if self.when == 'resetting':
      raise RuntimeError('no display')
    self.count = 0
    return self._observe(), {}

  def step(self, action):
    self.count += 1
    if self.count == self.die_at and action == 1:
      os.kill(os.getpid(), signal.SIGKILL)
    return self._observe(), 1.0, False, False, {}

  def close(self):
    if self.folder:
      open(os.path.join(self.folder, str(os.getpid())), 'w').close()
"""


@pytest.fixture(name='process')
def make_process(tmp_path):
  path = tmp_path / 'process_env.py'
  path.write_text(PLUGIN)
  return lambda **kwargs: types.Recipe(
      'env', 'test.process', kwargs, (str(path),))


class Constant(Policy):
  """Environment i always takes action i."""

  def __call__(self, obs, is_first, state, call):
    return {'action': np.arange(len(is_first), dtype=np.int32)}, {}, state


def test_processes_are_apart_and_closed_in_order(process, tmp_path):
  folder = tmp_path / 'closed'
  folder.mkdir()
  collector = local.LocalCollector(
      env=process(folder=str(folder)), num_envs=2)
  [probed] = folder.iterdir()
  sink = Sink()
  collector.run(Constant(), sink, 4)
  collector.close()
  pids = {int(x) for x in collector._obs['pid']}
  assert len(pids) == 2 and os.getpid() not in pids
  # Ctrl-C reaches a process group: the environments' are others than ours.
  groups = {int(x) for x in collector._obs['group']}
  assert len(groups) == 2 and os.getpgid(0) not in groups
  assert not any(x['tensorflow'].any() for x in sink.steps)
  closed = {x.name for x in folder.iterdir()} - {probed.name}
  assert closed == {str(x) for x in pids}


def test_a_process_that_dies_is_started_anew_without_the_others(
    process, caplog):
  collector = local.LocalCollector(env=process(die_at=3), num_envs=2)
  sink = Sink()
  episodes = collector.run(Constant(), sink, 14)
  collector.close()
  assert 'environment 1 died and is started anew' in caplog.text
  steps = np.array(sink.column('step', 1)).tolist()
  # Reset, two steps, the last one again as it was, reset.
  assert steps[:6] == [0, 1, 2, 2, 0, 1]
  assert sink.column('step', 0)[:6] == [0, 1, 2, 3, 4, 5]
  last = np.array([x['is_last'] for x in sink.steps])
  first = np.array([x['is_first'] for x in sink.steps])
  np.testing.assert_array_equal(np.flatnonzero(last[:6, 1]), [3])
  np.testing.assert_array_equal(first[1:], last[:-1])
  assert not last[:, 0].any()
  assert not any(x['is_terminal'].any() for x in sink.steps)
  assert episodes and all(
      e.worker == 1 and e.truncated and e.score == 2
      and e.extras == {'restarts_sum': 1.0} for e in episodes)


def test_a_process_that_always_dies_is_one_clear_error(process):
  collector = local.LocalCollector(
      env=process(die_at=1), num_envs=2, max_restarts=1)
  with pytest.raises(errors.UserError, match='test.process died, 2 times'):
    collector.run(Constant(), Sink(), 20)
  collector.close()
  with pytest.raises(errors.UserError, match='built env.test.process died'):
    worker.probe(process(when='building'))


def test_an_error_of_a_process_is_raised_in_silence(process, capfd):
  collector = local.LocalCollector(env=process(when='resetting'))
  with pytest.raises(errors.UserError, match='no display.*dv3-envcheck'):
    collector.run(Constant(), Sink(), 4)
  collector.close()
  assert capfd.readouterr().err == ''


def test_arguments_that_the_environment_refuses_are_one_clear_error():
  with pytest.raises(errors.UserError, match='could not be built.*wings'):
    worker.probe(recipe(kwargs={'wings': 2}))


def test_unknown_environment_names_the_nearest():
  with pytest.raises(errors.UserError, match='CartPole-v1'):
    worker.probe(recipe(id='CartPol-v1'))


def test_workers_and_collectors_load_no_tensorflow():
  program = (
      'import sys, dv3.envs.gymnasium, dv3.collectors.local, dv3.replay.replay'
      '\nprint("tensorflow" in sys.modules)')
  output = subprocess.run(
      [sys.executable, '-c', program], capture_output=True, text=True,
      check=True).stdout
  assert output.strip() == 'False'


SPACE = gymnasium.spaces.Dict({
    'image': gymnasium.spaces.Box(0, 255, (4, 6, 3), np.uint8),
    'nested': gymnasium.spaces.Dict({
        'flag': gymnasium.spaces.MultiBinary(3),
        'pair': gymnasium.spaces.Tuple([
            gymnasium.spaces.Discrete(4, start=-1),
            gymnasium.spaces.Box(-np.inf, np.inf, (), np.float64)])}),
    'choice': gymnasium.spaces.MultiDiscrete([2, 5])})


def test_observations_are_flattened():
  specs = spaces.observation_specs(SPACE)
  assert set(specs) == {
      'image', 'nested/flag', 'nested/pair/0', 'nested/pair/1', 'choice'}
  assert specs['image'].is_image and specs['image'].dtype == 'uint8'
  assert specs['nested/pair/0'].classes == (4,)
  assert specs['choice'].classes == (2, 5)
  assert specs['nested/pair/1'].dtype == 'float32'
  vector = gymnasium.vector.utils.batch_space(SPACE, 3)
  flat = spaces.flatten(SPACE, vector.sample(), 'observation')
  assert set(flat) == set(specs)
  for name, spec in specs.items():
    assert flat[name].shape == (3, *spec.shape)
    assert flat[name].dtype == spec.dtype
    if spec.is_discrete:
      assert flat[name].min() >= 0


def test_actions_are_mapped_to_the_space():
  space = gymnasium.spaces.Dict({
      'move': gymnasium.spaces.Box(
          np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
      'press': gymnasium.spaces.Discrete(3, start=5),
      'keys': gymnasium.spaces.MultiBinary(2)})
  specs = spaces.action_specs(space)
  assert set(specs) == {'action/move', 'action/press', 'action/keys'}
  action = spaces.unflatten_action(space, {
      'action/move': np.array([0.5, -7.0], np.float32),
      'action/press': np.int32(2), 'action/keys': np.array([1, 0])})
  assert space.contains(action)
  np.testing.assert_allclose(action['move'], [1.0, 0.0])
  assert action['press'] == 7


def test_what_cannot_be_represented_is_listed():
  space = gymnasium.spaces.Dict({
      'fine': gymnasium.spaces.Discrete(2),
      'words': gymnasium.spaces.Text(4)})
  with pytest.raises(errors.UserError, match='words: Text.*fine: Discrete'):
    spaces.observation_specs(space)
  with pytest.raises(errors.UserError, match='RescaleAction'):
    spaces.action_specs(gymnasium.spaces.Box(-np.inf, np.inf, (2,)))
  with pytest.raises(errors.UserError, match='reward.*rename'):
    spaces.observation_specs(gymnasium.spaces.Dict({
        'reward': gymnasium.spaces.Discrete(2)}))


def test_registered():
  assert registry.get('collector', 'local') is local.LocalCollector


def test_policies_in_turn_have_states_of_their_own():
  class Other(Policy):
    """Has another state, as a random policy has."""

    def initial(self, num_envs):
      return ()

    def __call__(self, obs, is_first, state, call):
      assert state == ()
      actions, entries, _ = super().__call__(
          obs, is_first, {'count': np.zeros(2)}, call)
      return actions, entries, state

  collector = local.LocalCollector(env=recipe(time_limit=6), num_envs=2)
  sink = Sink()
  collector.run(Other(), sink, 6)
  collector.run(Policy(), sink, 4)
  # What was under way counts for neither of them.
  episodes = collector.evaluate(Policy(), 2)
  collector.close()
  assert sorted(e.worker for e in episodes) == [0, 1]
  assert all(e.length == 6 for e in episodes)
  assert episodes[0].step > collector.num_envs * 6


def test_an_environment_is_a_recipe():
  with pytest.raises(errors.UserError, match='give a dv3.types.Recipe'):
    local.LocalCollector(env='CartPole-v1')
