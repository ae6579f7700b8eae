"""Steps environments that live in processes; subclasses say where those are."""

import abc
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from dv3 import errors
from dv3 import interfaces
from dv3 import types
from dv3.collectors import fleet
from dv3.collectors import nests
from dv3.collectors import recording
from dv3.collectors import worker


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
  def _process(self, make: worker.Make, seconds: float) -> fleet.Process:
    """Starts the process of an environment."""

  def resize(self, num_envs: int) -> None:
    """Sets the number of environments, before the first step."""
    self.num_envs = num_envs
    self._fleet = fleet.Fleet(
        self._recipe, (self._obs_space, self._action_space), count=num_envs,
        process=self._process, seed=self._seed,
        hang_seconds=self._hang_seconds, max_restarts=self._max_restarts)
    self._policy_leaves: list[np.ndarray] | None = None
    self._policy_state: Any = None
    self._policy: Any = None
    self.env_steps = 0
    self._calls = 0
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
      if self._fleet.given_up:
        break
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
    if not self._fleet.opened:
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
      self._fleet.end(int(index))
    self._cut = [types.Episode(*x) for x in state.get('cut', ())] + [
        self._episode(i) for i in np.flatnonzero(differs) if self._length[i]]

  def hurry(self, seconds: float) -> None:
    """Has what takes longer from now on count as hanging; for a clean end.

    Not while environments are being built for the first time.
    """
    self._fleet.hurry(seconds)

  def close(self) -> None:
    """Ends the environments' processes, by force those that hang."""
    self._fleet.close()

  def _start(self, policy):
    """Opens environments and the policy's state where that is still to do."""
    if not self._fleet.opened:
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
    arrivals = self._fleet.open(self._under_way)
    self._obs = _join([arrival.obs for arrival in arrivals])
    return np.array(['resume/ended' in arrival.info for arrival in arrivals])

  def _next(self, index) -> fleet.Start:
    """Returns the start of an environment's next episode."""
    return fleet.Start(int(self._episodes[index]), self._seeds[index])

  def _under_way(self, index) -> fleet.Start:
    """Returns the start that continues an environment's episode."""
    if self._is_last[index]:
      return self._next(index)
    return self._next(index)._replace(actions=self._actions[index])

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
        *self._fleet.step(actions, self._is_last, self._obs, self._next),
        strict=True)
    self._obs = _join(obs)
    self._is_first = self._is_last
    self._reward = np.array(reward, np.float32)
    self._is_terminal = np.array(terminated, bool)
    self._is_last = self._is_terminal | np.array(truncated, bool)
    self.env_steps += int(self.num_envs - self._is_first.sum())
    return self._account(np.array(reward, np.float64), infos)

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
