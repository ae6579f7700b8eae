"""Environments that raise, hang, return nonsense, or whose process dies.

Each costs its episode and no other, is counted, and ends the run only after
several in a row. No TensorFlow: what guards a run lies in the collector.
"""

import os
import pathlib
import re
import threading
import time

import gymnasium
import numpy as np
import pytest

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.collectors import fleet
from dv3.collectors import local
from dv3.collectors import worker
from dv3.envs import wrappers

PLUGIN = '''
import os, signal, time
import gymnasium
import numpy as np
import dv3

@dv3.register('env', 'test.faulty')
class Faulty(gymnasium.Env):
  """Environment i counts its steps; at step `at` the one told to is faulty."""

  observation_space = gymnasium.spaces.Dict({
      'count': gymnasium.spaces.Box(-1, 1e6, (2,), np.float32),
      'pid': gymnasium.spaces.Box(0, 2 ** 40, (), np.float64)})
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, *, fault: str, at: int = 3, when: str = 'step'):
    self.fault, self.at, self.when = fault, at, when

    if when == 'build':
      self.act()

  def reset(self, *, seed=None, options=None):
    self.count = 0
    if self.when == 'reset':
      return self.act()[0], {}
    return self.observe(), {}

  def observe(self, value=None, shape=(2,)):
    return {
        'count': np.full(shape, self.count if value is None else value),
        'pid': np.float64(os.getpid())}

  def step(self, action):
    self.count += 1
    if self.count == self.at and action == 1:
      return (*self.act(), False, False, self.info())
    return self.observe(), 1.0, False, False, {}

  def info(self):
    match self.fault:
      case 'log words':
        return {'log/x': 'text'}
      case 'log vector':
        return {'log/x': np.ones(2)}
      case 'info list':
        return [1]
      case _:
        return {}

  def act(self):
    match self.fault:
      case 'raise':
        raise RuntimeError('the simulator is gone')
      case 'hang':
        time.sleep(1000)
      case 'die':
        os.kill(os.getpid(), signal.SIGKILL)
      case 'exit':
        raise SystemExit(3)
      case 'nan':
        return self.observe(np.nan), 1.0
      case 'overflow':  # Finite, but not as the float32 that replay stores.
        return self.observe(1e300), 1.0
      case 'shape':
        return self.observe(shape=(3,)), 1.0
      case 'broadcast':
        return self.observe(shape=(1,)), 1.0
      case 'missing':
        return {'count': np.zeros(2)}, 1.0
      case 'words':
        return self.observe('a'), 1.0
      case 'none':
        return None, 1.0
      case 'nan reward':
        return self.observe(), float('nan')
      case 'inf reward':
        return self.observe(), -np.inf
      case 'reward shape':
        return self.observe(), np.zeros(2)
      case 'interrupt':
        raise KeyboardInterrupt
      case _:
        return self.observe(), 1.0
'''

FAULTS = {
    'raise': 'the simulator is gone', 'hang': 'did not answer for 3 seconds',
    'die': 'died', 'exit': 'SystemExit(3)', 'nan': "'count' has nan",
    'overflow': "'count' has inf", 'shape': "'count' has shape (3,), not (2,)",
    'broadcast': "'count' has shape (1,), not (2,)", 'missing': 'no pid',
    'words': "'count' is <U1, not a number", 'none': 'no count',
    'nan reward': 'the reward is nan', 'inf reward': 'the reward is -inf',
    'reward shape': 'the reward has shape (2,), not ()',
    'log words': "info has log/x = 'text'", 'log vector': 'info has log/x = ar',
    'info list': 'info is a list, not a dict',
    'interrupt': 'KeyboardInterrupt'}


class Constant:
  """Environment i always takes action i; the state counts the steps."""

  def initial(self, num_envs):
    return {'count': np.zeros(num_envs, np.int64)}

  def __call__(self, obs, is_first, state, call):
    return {'action': np.arange(len(is_first), dtype=np.int32)}, {}, state


@pytest.fixture(name='faulty')
def make_faulty(tmp_path):
  path = tmp_path / 'faulty_env.py'
  path.write_text(PLUGIN)
  return lambda **kwargs: types.Recipe(
      'env', 'test.faulty', kwargs, (str(path),))


def collect(collector, env_steps):
  """Returns {name: [t, n, ...]} of what is handed on, and the episodes."""
  steps = []
  try:
    episodes = collector.run(
        Constant(), lambda x, _: steps.append(
            {k: np.array(v) for k, v in x.items()}), env_steps)
  finally:
    collector.close()
  return {k: np.stack([x[k] for x in steps]) for k in steps[0]}, episodes


@pytest.mark.parametrize('name, fault', [
    *(('local', fault) for fault in FAULTS),
    *(('ray', fault) for fault in ('raise', 'hang', 'die', 'nan'))])
def test_a_fault_costs_its_episode_and_no_other(faulty, name, fault, caplog):
  steps, episodes = collect(registry.get('collector', name)(
      env=faulty(fault=fault), num_envs=2,
      hang_seconds=3.0 if fault == 'hang' else 60.0), 14)
  assert FAULTS[fault] in caplog.text
  if fault in ('raise', 'interrupt'):  # With file, line and function.
    assert re.search(r'at \S+faulty_env.py:\d+ in act', caplog.text)
  assert 'environment 1' in caplog.text and 'truncated' in caplog.text
  assert all(np.isfinite(x).all() for x in steps.values())
  count = steps['count'][..., 0]
  # Reset, two steps, the last one again as it was, reset.
  np.testing.assert_array_equal(count[:6, 1], [0, 1, 2, 2, 0, 1])
  np.testing.assert_array_equal(count[:, 0], np.arange(len(count)))
  assert len(set(steps['pid'][:, 0])) == 1
  np.testing.assert_array_equal(
      np.flatnonzero(steps['is_last'][:6, 1]), [3])
  np.testing.assert_array_equal(steps['is_first'][1:], steps['is_last'][:-1])
  assert not steps['is_terminal'].any()
  assert not steps['is_last'][:, 0].any()
  assert episodes and all(
      e.truncated and e.worker == 1 and e.score == 2
      and e.extras['restarts_sum'] == 1.0 for e in episodes)


def test_the_same_fault_in_each_episode_is_told_at_each_doubling(
    faulty, caplog):
  _, episodes = collect(registry.get('collector', 'local')(
      env=faulty(fault='raise'), num_envs=2), 75)
  told = [x.args[-1] for x in caplog.records if 'built anew' in x.msg]
  assert len(episodes) == sum(
      e.extras['restarts_sum'] for e in episodes) >= 8
  assert told == [1, 2, 4, 8][:len(told)] and len(told) >= 4


@pytest.mark.parametrize('name, fault, when', [
    *(('local', fault, when) for fault in ('raise', 'die', 'nan', 'hang')
      for when in ('step', 'reset')),
    ('ray', 'die', 'step')])
def test_a_fault_without_end_is_one_clear_error(
    faulty, name, fault, when, monkeypatch):
  monkeypatch.setattr(fleet, '_LAUNCH_SECONDS', 10.0)
  collector = registry.get('collector', name)(
      env=faulty(fault=fault, at=1, when=when), num_envs=2, max_restarts=1,
      hang_seconds=3.0 if fault == 'hang' else 60.0)
  with pytest.raises(errors.UserError, match='dv3-envcheck') as info:
    collect(collector, 40)
  assert '2 times in a row' in str(info.value)
  assert FAULTS[fault].partition(' for ')[0] in str(info.value)


def test_one_environment_that_cannot_be_built_is_one_clear_error(tmp_path):
  path = tmp_path / 'scarce_env.py'
  path.write_text(f'''
import pathlib
import dv3
from dv3.envs import memory

@dv3.register('env', 'test.scarce')
def make():
  made = pathlib.Path({str(tmp_path)!r}) / 'made'
  made.touch()
  with made.open('a') as file:
    file.write('x')
  if len(made.read_text()) > 2:
    raise RuntimeError('no licence left')
  return memory.Memory()
''')
  collector = local.LocalCollector(
      env=types.Recipe('env', 'test.scarce', {}, (str(path),)), num_envs=2)
  with pytest.raises(errors.UserError, match='no licence left'):
    collect(collector, 4)


def test_processes_end_with_their_parent(faulty, tmp_path):
  # Even those that hang: nobody is left to kill them.
  child = os.fork()
  if not child:
    try:
      collector = local.LocalCollector(
          env=faulty(fault='hang', at=3), num_envs=2)
      steps = []
      def sink(x, _):
        steps.append(x)
        (tmp_path / 'pids').write_text(' '.join(
            str(int(pid)) for pid in x['pid']))
      collector.run(Constant(), sink, 100)
    finally:
      os._exit(1)
  pids = tmp_path / 'pids'
  deadline = time.monotonic() + 600
  while not pids.exists() and time.monotonic() < deadline:
    time.sleep(0.1)
  time.sleep(1)  # Environment 1 hangs by now, most often.
  os.kill(child, 9)
  os.waitpid(child, 0)
  found = [pathlib.Path('/proc') / x for x in pids.read_text().split()]
  assert len(found) == 2
  while any(x.exists() for x in found) and time.monotonic() < deadline:
    time.sleep(0.1)
  assert not any(x.exists() for x in found)


def test_hurry_shortens_the_wait(faulty):
  collector = local.LocalCollector(env=faulty(fault='hang'), num_envs=2)
  collector.run(Constant(), None, 2)
  collector.hurry(2.0)
  start = time.monotonic()
  steps, _ = collect(collector, 8)
  assert time.monotonic() - start < 250  # A hang alone is 300 otherwise.
  assert steps['is_last'].any()


def test_a_step_that_is_too_slow_for_a_stop_is_no_failure(faulty):
  collector = local.LocalCollector(
      env=faulty(fault='hang'), num_envs=2, max_restarts=0)
  collector.run(Constant(), None, 2)
  collector.hurry(2.0)
  steps, episodes = collect(collector, 8)
  assert steps['is_last'][:, 1].any()
  assert [e.worker for e in episodes] == [1]


@pytest.mark.parametrize('ends', [1, 0])
def test_hurry_does_not_wait_for_resets_that_hang_again(tmp_path, ends):
  path = tmp_path / 'slow_env.py'
  path.write_text(SLOW)
  # Environment 0 goes on, or there is none but the one that hangs.
  collector = local.LocalCollector(
      env=types.Recipe('env', 'test.slow', {'ends': ends}, (str(path),)),
      num_envs=1 + ends)
  steps = []
  collector.run(Constant(), None, 2)
  collector.hurry(2.0)
  start = time.monotonic()
  try:
    episodes = collector.run(
        Constant(), lambda x, _: steps.append(x['is_last'].copy()), 6)
    state = collector.state()
  finally:
    collector.close()
  assert time.monotonic() - start < 60
  # An episode ends after 3 steps; its next reset hangs, and is not tried again.
  assert [e.length for e in episodes if e.worker == ends] == [3]
  assert steps[-1][ends]
  assert state['is_last'][ends]


SLOW = '''
import time
import gymnasium
import numpy as np
import dv3

@dv3.register('env', 'test.slow')
class Slow(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)
  resets = 0

  def __init__(self, *, ends: int):
    self.ends = ends

  def reset(self, *, seed=None, options=None):
    self.count = 0
    self.resets += 1
    if self.resets > 1:
      time.sleep(1000)
    return np.zeros(1, np.float32), {}

  def step(self, action):
    self.count += 1
    end = self.count == 3 and action == self.ends
    return np.zeros(1, np.float32), 1.0, bool(end), False, {}
'''


def test_an_environment_whose_constructor_hangs_is_one_clear_error(faulty):
  recipe = faulty(fault='hang', when='build')
  start = time.monotonic()
  with pytest.raises(errors.UserError, match='not built within 5 seconds'):
    worker.probe(recipe, 5.0)
  assert time.monotonic() - start < 300


def test_what_an_environment_says_besides_stays_in_its_process():
  class Talking(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
      return np.zeros(1, np.float32), {'lock': threading.Lock(), 'log/a': 1}

    def step(self, action):
      return np.zeros(1, np.float32), 0.0, False, False, {
          'lock': threading.Lock(), 'log/coins': np.float32(2.0)}

  env = wrappers.Checked(Talking())
  assert env.reset()[1] == {'log/a': 1.0}
  assert env.step(0)[-1] == {'log/coins': 2.0}
  repeated = wrappers.ActionRepeat(Talking(), 4)
  repeated.reset()
  assert repeated.step(0)[-1]['log/coins'] == 8.0


def test_episode_of_another_seed_is_continued_with_its_own():
  recipe = types.Recipe('env', 'gymnasium', {'id': 'CartPole-v1'})
  def run(collector, env_steps):
    steps = []
    collector.run(Constant(), lambda x, _: steps.append(
        np.array(x['observation'])), env_steps)
    return np.stack(steps)
  straight = local.LocalCollector(env=recipe, num_envs=2, seed=1)
  run(straight, 8)
  state = straight.state()
  expected = run(straight, 6)
  straight.close()
  other = local.LocalCollector(env=recipe, num_envs=2, seed=2)
  other.load(state)
  assert not other._is_last.any()
  np.testing.assert_array_equal(run(other, 6), expected)
  again = other.state()
  assert again['seeds'] == [1, 1]
  other.close()


def test_checks_let_through_what_environments_do():
  class Loose(gymnasium.Env):
    observation_space = gymnasium.spaces.Tuple([
        gymnasium.spaces.Discrete(3), gymnasium.spaces.Dict({
            'x': gymnasium.spaces.Box(0, 1, (2,), np.float64),
            'pixels': gymnasium.spaces.Box(0, 255, (2, 2, 3), np.uint8)})])
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
      return self.observe(), {}

    def observe(self):
      # Plain lists, numbers out of bounds, a wider dtype.
      return 1, {'x': [3, -2.0], 'pixels': np.zeros((2, 2, 3), np.int64)}

    def step(self, action):
      return self.observe(), np.array([2.0]), False, False, {}

  for repeat in (1, 3):
    env = wrappers.AutoReset(wrappers.Checked(
        wrappers.ActionRepeat(Loose(), repeat)))
    env.reset()
    assert env.step(0)[1] == 2.0 * repeat
