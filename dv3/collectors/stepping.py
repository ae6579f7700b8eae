"""Steps environments that live in processes; subclasses say where those are."""

import abc
import copy
import time
from collections.abc import Sequence
from concurrent import futures
from typing import Any
from typing import Protocol

import numpy as np
from absl import logging

from dv3 import errors
from dv3 import interfaces
from dv3 import types
from dv3.collectors import nests
from dv3.collectors import recording
from dv3.collectors import worker
from dv3.envs import spaces

_CLOSING_SECONDS = 5.0  # For environments to end by themselves.
_LAUNCH_SECONDS = 300.0  # At least, to import, build and reset.
_FAILURES = (EOFError, ConnectionError, worker.Hung)


class Process(Protocol):
  """A process with one environment: `worker.Process` has the contract."""

  seconds: float

  def reset(self) -> Any: ...

  def send(self, actions) -> None: ...

  def receive(self) -> Any: ...

  def end(self) -> None: ...

  def ask_to_close(self) -> None: ...

  def close(self, deadline: float = 0.0) -> None: ...


class SteppingCollector(interfaces.Collector):
  """Steps environments in processes, all at once; an abstract class.

  What is handed on of a step: the observation, the reward received on arriving
  at it, its flags, the action chosen after it (zeros at the end of an
  episode), and the policy's entries.

  An environment that raises, hangs, dies, or returns what learning cannot use
  (see `wrappers.Checked`) is started anew at the cost of its episode, which is
  truncated; the episode's extra `restarts_sum` counts that.

  Args:
    env: recipe of the environment.
    seed: of the run; episode n of environment i always starts alike.
    num_envs: how many environments.
    hang_seconds: a step or reset that takes longer hangs; 0 waits forever.
      The first reset of a process, which builds the environment, has 300
      seconds or more.
    max_restarts: of an environment in a row, without a whole step between;
      one more ends the run.

  Raises:
    UserError: (`run`) if an environment cannot be built, or fails more often.
  """

  def __init__(
      self, *, env: types.Recipe, seed: int = 0, num_envs: int = 1,
      hang_seconds: float = 300.0, max_restarts: int = 5):
    if not isinstance(env, types.Recipe):
      raise errors.UserError(
          f'the collector got {env!r} for env; give a dv3.types.Recipe, as '
          "dv3.types.Recipe('env', 'gymnasium', {'id': 'CartPole-v1'})")
    errors.check_least(1, {'num_envs of the collector': num_envs})
    errors.check_least(0, {
        'hang_seconds of the collector': hang_seconds,
        'max_restarts of the collector': max_restarts})
    self._recipe = env
    self._seed = seed
    self._hang_seconds = hang_seconds
    self._max_restarts = max_restarts
    self._obs_space, self._action_space, self.obs_spec, self.action_spec = (
        self._probe(env))
    self.resize(num_envs)

  @abc.abstractmethod
  def _probe(self, recipe: types.Recipe) -> tuple:
    """See `worker.probe`."""

  @abc.abstractmethod
  def _process(self, make: worker.Make, seconds: float) -> Process:
    """Starts the process of an environment."""

  def resize(self, num_envs: int) -> None:
    """Sets the number of environments, before the first step."""
    self.num_envs = num_envs
    # None where a process has to be started.
    self._envs: list[Process | None] = [None] * num_envs
    self._opened = False
    self._hurried = False
    self._policy_leaves: list[np.ndarray] | None = None
    self._policy_state: Any = None
    self._policy: Any = None
    self.env_steps = 0
    self._calls = 0
    self._failures = [0] * num_envs  # In a row, of each process.
    self._rebuilt = [0] * num_envs  # How often, by a process that lives on.
    self._seeds = [self._seed] * num_envs  # Of the episodes under way.
    self._workers = np.arange(num_envs)
    self._episodes = np.zeros(num_envs, np.int64)
    self._actions = [
        recording.Actions(self.action_spec) for _ in range(num_envs)]
    self._clear_steps()

  def _clear_steps(self):
    count = self.num_envs
    self._obs: dict[str, np.ndarray] = {}
    self._reward = np.zeros(count, np.float32)
    self._is_first = np.ones(count, bool)
    self._is_last = np.zeros(count, bool)
    self._is_terminal = np.zeros(count, bool)
    self._score = np.zeros(count, np.float64)
    self._length = np.zeros(count, np.int64)
    self._extras: list[dict[str, float]] = [{} for _ in range(count)]
    self._cut: list[types.Episode] = []  # By a resume; `run` returns them.

  def run(self, policy, sink, env_steps: int) -> list[types.Episode]:
    """Collects at least `env_steps` steps and returns the episodes that ended.

    Fewer only where there is hurry and every environment hangs.

    Args:
      policy: see `training.policy.Policy`.
      sink: function (steps {name: [n, ...]}, workers [n]), or None.
      env_steps: how many, over all environments.
    """
    self._start(policy)
    target = self.env_steps + env_steps
    cut, self._cut = self._cut, []
    episodes = []
    while self.env_steps < target:
      episodes += self._step(policy, sink)
      if self._hurried and not any(self._envs):
        break  # None of them will ever step again.
    # Of now, not of the checkpoint: what goes on from that once more drops all
    # that was logged after it, and logs them again.
    return episodes + [x._replace(step=self.env_steps) for x in cut]

  def evaluate(self, policy, episodes: int) -> list[types.Episode]:
    """Plays whole episodes, as many in each environment as in any other.

    So short episodes do not count more than long ones. Episodes under way, of
    another policy perhaps, are played to their ends and do not count.

    Returns:
      `episodes` episodes in the order of environments.
    """
    under_way = (self._length > 0) & ~self._is_last
    quota = -(-episodes // self.num_envs)
    played: list[list[types.Episode]] = [[] for _ in range(self.num_envs)]
    while any(len(x) < quota for x in played):
      for episode in self.run(policy, None, 1):
        if under_way[episode.worker]:
          under_way[episode.worker] = False
        else:
          played[episode.worker].append(episode)
    return [x for i in range(quota) for x in (
        mine[i] for mine in played)][:episodes]

  def state(self) -> dict[str, Any]:
    """See `interfaces.Collector.state`."""
    if not self._opened:
      return {'started': False}
    # A copy: some of these change in place with the next step.
    return copy.deepcopy({
        'started': True, 'env_steps': self.env_steps, 'calls': self._calls,
        'obs': self._obs, 'reward': self._reward, 'is_first': self._is_first,
        'is_last': self._is_last, 'is_terminal': self._is_terminal,
        'score': self._score, 'length': self._length,
        'extras': self._extras, 'episodes': self._episodes,
        'cut': [list(episode) for episode in self._cut],
        'seeds': self._seeds,
        # Saved again before the first step, the state is still as loaded.
        'policy': nests.leaves(self._policy_state) if (
            self._policy_state is not None) else self._policy_leaves,
        'actions': [actions.arrays() for actions in self._actions]})

  def load(self, state: dict[str, Any]) -> None:
    """See `interfaces.Collector.load`; the number of environments may differ.

    Recorded actions are replayed in the environments. Where the observation
    then is another one, the episode is ended as truncated, with a warning.
    """
    if not state['started']:
      return
    self.close()
    self._clear_steps()
    self.env_steps, self._calls = state['env_steps'], state['calls']
    kept = min(self.num_envs, len(state['reward']))
    if 'seeds' in state:
      self._seeds[:kept] = state['seeds'][:kept]
    self._episodes[:kept] = state['episodes'][:kept]
    for name in (
        'reward', 'is_first', 'is_last', 'is_terminal', 'score', 'length'):
      getattr(self, f'_{name}')[:kept] = state[name][:kept]
    self._extras[:kept] = state['extras'][:kept]
    self._actions = [
        recording.Actions(self.action_spec, actions)
        for actions in (*state['actions'], *[{}] * self.num_envs)][
            :self.num_envs]
    self._policy_leaves = [x[:kept] for x in state['policy']]
    self._policy_state = None
    differs = self._open()
    for name, value in self._obs.items():
      old = state['obs'][name][:kept]
      same = (value[:kept] == old) | ((value[:kept] != value[:kept]) & (
          old != old))
      differs[:kept] |= ~same.reshape(kept, -1).all(1)
      value[:kept] = old
    differs[:kept] &= ~self._is_last[:kept]
    for index in np.flatnonzero(differs):
      logging.warning(
          'environment %d did not repeat its episode (it is not '
          'deterministic); the episode is truncated', index)
    self._is_last |= differs
    for index in np.flatnonzero(self._is_last):
      self._envs[index].end()
    self._cut = [types.Episode(*x) for x in state.get('cut', ())] + [
        self._episode(i) for i in np.flatnonzero(differs) if self._length[i]]

  def hurry(self, seconds: float) -> None:
    """Has what takes longer from now on count as hanging; for a clean end.

    Not while environments are being built for the first time.
    """
    if not self._opened:
      return
    self._hurried = True
    if not 0 < self._hang_seconds <= seconds:
      self._hang_seconds = seconds
      for env in self._envs:
        if env is not None:
          env.seconds = seconds

  def close(self) -> None:
    """Ends the environments' processes, by force those that hang."""
    envs = [env for env in self._envs if env is not None]
    self._envs = [None] * self.num_envs
    self._opened = False
    for env in envs:
      env.ask_to_close()
    deadline = time.monotonic() + _CLOSING_SECONDS
    for env in envs:
      env.close(deadline)

  def _start(self, policy):
    """Opens environments and the policy's state where that is still to do."""
    if not self._opened:
      self._open()
    if policy is not self._policy:
      self._policy = policy
      if self._policy_state is not None and not nests.alike(
          self._policy_state, policy.initial(self.num_envs)):
        self._policy_state = None  # It means nothing to this policy.
    if self._policy_state is None:
      self._policy_state = policy.initial(self.num_envs)
      if self._policy_leaves is not None:
        leaves = nests.leaves(self._policy_state)
        leaves = [
            np.concatenate([old, leaf[len(old):]])
            for leaf, old in zip(leaves, self._policy_leaves, strict=True)]
        self._policy_state = nests.pack(self._policy_state, leaves)
        self._policy_leaves = None

  def _open(self):
    """Starts the processes and resets, continuing recorded episodes.

    Returns:
      [n] bool, which environments ended the recorded episode early.
    """
    launched = self._launch({
        i: () if self._is_last[i] else self._actions[i]
        for i in range(self.num_envs)})
    self._opened = True
    self._obs = _join([obs for obs, _ in launched.values()])
    return np.array([
        'resume/ended' in info for _, info in launched.values()])

  def _launch(self, recorded):
    """Starts and resets some environments, all at once.

    Args:
      recorded: {index: actions of the episode to continue}.

    Returns:
      {index: (observation, info)}.
    """
    with futures.ThreadPoolExecutor(len(recorded)) as pool:
      return dict(zip(recorded, pool.map(
          self._launch_one, recorded, recorded.values()), strict=True))

  def _launch_one(self, index, actions):
    """Starts and resets one environment, again if it fails."""
    ended = {}
    while True:
      make = worker.Make(
          self._recipe, seed=self._seed, index=index, actions=actions,
          known=(self._obs_space, self._action_space),
          episode=int(self._episodes[index]), first_seed=self._seeds[index],
          max_restarts=self._max_restarts)
      try:
        # All recorded actions are replayed in this one reset.
        process = self._envs[index] = self._process(
            make, self._launch_seconds(1 + len(actions)))
        obs, info = process.reset()
        process.seconds = self._hang_seconds
        return self._flat(obs), {**info, **ended}
      except _FAILURES as error:
        self._fail(index, error)
        if actions:
          actions, ended = (), {'resume/ended': True}

  def _launch_seconds(self, steps: int = 1) -> float:
    """Returns what a start with so many steps may take; 0 is without limit."""
    return self._hang_seconds and max(
        _LAUNCH_SECONDS, self._hang_seconds * steps)

  def _fail(self, index, error, last=False):
    """Ends a process that died or hangs; raises UserError at the limit.

    Args:
      index: of the environment.
      error: what happened.
      last: whether it will not be started again anyway, so that no limit holds.
    """
    env, self._envs[index] = self._envs[index], None
    if env is not None:
      env.close()
    self._failures[index] += 1
    what = str(error) if isinstance(error, worker.Hung) else 'died'
    if self._failures[index] > self._max_restarts and not last:
      often = (
          f', {self._failures[index]} times in a row; look for a lack of '
          'memory, or try it alone with dv3-envcheck' if self._max_restarts
          else '; look for a lack of memory, or try it alone in Python')
      raise errors.UserError(
          f'the process of {self._recipe.kind}.{self._recipe.name} {what}'
          f'{often}') from error
    logging.warning(
        'the process of environment %d %s%s; an episode under way is truncated',
        index, what, '' if last else ' and is started anew')

  def _flat(self, obs):
    """Returns the entries {name: [1, ...]} of an observation."""
    return spaces.flatten(self._obs_space, obs, 'observation')

  def _step(self, policy, sink):
    """One step of every environment."""
    actions, entries, self._policy_state = policy(
        self._obs, self._is_first, self._policy_state, self._calls)
    self._calls += 1
    if self._is_last.any():
      for name, value in actions.items():
        actions[name] = np.array(value)
        actions[name][self._is_last] = 0
    if sink is not None:
      sink({
          **self._obs, **actions, **entries, 'reward': self._reward,
          'is_first': self._is_first, 'is_last': self._is_last,
          'is_terminal': self._is_terminal}, self._workers)
    for index in range(self.num_envs):
      if self._is_last[index]:
        self._actions[index] = recording.Actions(self.action_spec)
        self._episodes[index] += 1
        self._seeds[index] = self._seed
      else:
        self._actions[index].append({
            k: v[index] for k, v in actions.items()})
    obs, reward, terminated, truncated, infos = zip(
        *self._advance(actions), strict=True)
    self._obs = _join(obs)
    self._is_first = self._is_last
    self._reward = np.array(reward, np.float32)
    self._is_terminal = np.array(terminated, bool)
    self._is_last = self._is_terminal | np.array(truncated, bool)
    self.env_steps += int(self.num_envs - self._is_first.sum())
    return self._account(np.array(reward, np.float64), infos)

  def _advance(self, actions):
    """Steps or resets every environment, all at once.

    One that failed in a step returns its last observation, truncated; it is
    started when the next episode is due. One that failed in a reset is started
    at once, or, once there is hurry, gives a last step without a first one.

    Returns:
      ({name: [1, ...]}, reward, terminated, truncated, info) of each.
    """
    results, failed = {}, {}
    for index, env in enumerate(self._envs):
      if env is not None:
        try:
          env.send({k: v[index: index + 1] for k, v in actions.items()})
        except _FAILURES as error:
          failed[index] = error
    for index, env in enumerate(self._envs):
      if env is not None and index not in failed:
        try:
          obs, reward, terminated, truncated, info = env.receive()
          results[index] = (
              self._flat(obs), reward[0], terminated[0], truncated[0],
              _only(info))
          if not self._is_last[index]:
            self._failures[index] = 0
        except _FAILURES as error:
          failed[index] = error
    for index, error in failed.items():
      # At a stop steps that are merely slow count as hanging.
      self._fail(index, error, last=self._hurried)
      if not self._is_last[index]:
        last = {k: v[index: index + 1] for k, v in self._obs.items()}
        results[index] = last, 0.0, False, True, {'log/restarts_sum': 1.0}
    rest = [i for i in range(self.num_envs) if i not in results]
    if self._hurried:  # It would hang again, while everybody waits for the end.
      for index in rest:
        last = {k: v[index: index + 1] for k, v in self._obs.items()}
        results[index] = last, 0.0, False, True, {}
    elif rest:
      for index, (obs, info) in self._launch(dict.fromkeys(rest, ())).items():
        results[index] = (obs, 0.0, False, False, _only(info))
    return [results[i] for i in range(self.num_envs)]

  def _account(self, reward, infos):
    """Sums scores and lengths; returns the episodes that ended here."""
    self._score = np.where(self._is_first, 0.0, self._score + reward)
    self._length = np.where(self._is_first, 0, self._length + 1)
    for index, info in enumerate(infos):
      if 'restart/error' in info:
        self._rebuilt[index] += 1
        often = self._rebuilt[index]
        if often & (often - 1) == 0:  # 1, 2, 4, 8: the rest adds nothing.
          logging.warning(
              'environment %d was built anew after %s; its episode is '
              'truncated (times so far: %d; told at each doubling, '
              'restarts_sum counts all)', index, info['restart/error'], often)
      if self._is_first[index]:
        self._extras[index] = {}
      sums = self._extras[index]
      for name, value in info.items():
        if name.startswith('log/'):
          key = name.removeprefix('log/')
          sums[key] = sums.get(key, 0.0) + float(value)
    return [
        self._episode(i) for i in np.flatnonzero(self._is_last)
        if self._length[i]]

  def _episode(self, index) -> types.Episode:
    """Returns the episode that has just ended."""
    return types.Episode(
        step=self.env_steps, score=float(self._score[index]),
        length=int(self._length[index]), worker=int(index),
        truncated=not self._is_terminal[index],
        extras=dict(self._extras[index]))


def _join(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """Returns the entries [1, ...] of several environments as [n, ...]."""
  return {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}


def _only(info: dict[str, Any]) -> dict[str, Any]:
  """Returns the info of the only environment of a vector environment."""
  return {
      k: v[0] for k, v in info.items()
      if not k.startswith('_') and isinstance(v, np.ndarray)
      and np.all(info.get(f'_{k}', True))}
