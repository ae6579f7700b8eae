"""The collector of environments on this machine."""

import contextlib
import copy
import time
from typing import Any

import numpy as np
from absl import logging
from gymnasium import vector

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.collectors import nests
from dv3.collectors import worker
from dv3.envs import spaces

_CLOSING_SECONDS = 5.0  # For environments to end by themselves.
_DEATHS = 5  # Processes that may die in a row.


@registry.register('collector', 'local')
class LocalCollector(interfaces.Collector):
  """Steps environments in spawned processes, all at once.

  Environments never share a process with TensorFlow (the two crash where
  OpenGL is software), not even a single one.

  What is handed on of a step: the observation, the reward received on arriving
  at it, its flags, the action chosen after it (zeros at the end of an
  episode), and the policy's entries.

  Args:
    env: recipe of the environment.
    seed: of the run; episode n of environment i always starts alike.
    num_envs: how many environments.
  """

  def __init__(self, *, env: types.Recipe, seed: int = 0, num_envs: int = 1):
    self._recipe = env
    self._seed = seed
    self._obs_space, self._action_space, self.obs_spec, self.action_spec = (
        worker.probe(env))
    self.resize(num_envs)

  def resize(self, num_envs: int) -> None:
    """Sets the number of environments, before the first step."""
    self.num_envs = num_envs
    self._envs: vector.AsyncVectorEnv | None = None
    self._policy_leaves: list[np.ndarray] | None = None
    self._policy_state: Any = None
    self.env_steps = 0
    self._calls = 0
    self._deaths = 0
    self._workers = np.arange(num_envs)
    self._episodes = np.zeros(num_envs, np.int64)
    self._actions: list[list[dict[str, np.ndarray]]] = [
        [] for _ in range(num_envs)]
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

  def run(self, policy, sink, env_steps: int) -> list[types.Episode]:
    """Collects at least `env_steps` steps and returns the episodes that ended.

    Args:
      policy: see `training.policy.Policy`.
      sink: function (steps {name: [n, ...]}, workers [n]), or None.
      env_steps: how many, over all environments.
    """
    self._start(policy)
    target = self.env_steps + env_steps
    episodes = []
    while self.env_steps < target:
      episodes += self._step(policy, sink)
    return episodes

  def evaluate(self, policy, episodes: int) -> list[types.Episode]:
    """Plays whole episodes, as many in each environment as in any other.

    So short episodes do not count more than long ones.

    Returns:
      `episodes` episodes in the order of environments.
    """
    quota = -(-episodes // self.num_envs)
    played: list[list[types.Episode]] = [[] for _ in range(self.num_envs)]
    while any(len(x) < quota for x in played):
      for episode in self.run(policy, None, 1):
        played[episode.worker].append(episode)
    return [x for i in range(quota) for x in (
        mine[i] for mine in played)][:episodes]

  def state(self) -> dict[str, Any]:
    """See `interfaces.Collector.state`."""
    if self._envs is None:
      return {'started': False}
    # A copy: some of these change in place with the next step.
    return copy.deepcopy({
        'started': True, 'env_steps': self.env_steps, 'calls': self._calls,
        'obs': self._obs, 'reward': self._reward, 'is_first': self._is_first,
        'is_last': self._is_last, 'is_terminal': self._is_terminal,
        'score': self._score, 'length': self._length,
        'extras': self._extras, 'episodes': self._episodes,
        # Saved again before the first step, the state is still as loaded.
        'policy': nests.leaves(self._policy_state) if (
            self._policy_state is not None) else self._policy_leaves,
        'actions': [
            {k: np.stack([x[k] for x in actions]) for k in self.action_spec}
            if actions else {} for actions in self._actions]})

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
    self._episodes[:kept] = state['episodes'][:kept]
    for name in (
        'reward', 'is_first', 'is_last', 'is_terminal', 'score', 'length'):
      getattr(self, f'_{name}')[:kept] = state[name][:kept]
    self._extras[:kept] = state['extras'][:kept]
    self._actions = [
        [{k: v[i] for k, v in actions.items()} for i in range(
            len(next(iter(actions.values()), ())))]
        for actions in state['actions'][:kept]]
    self._actions += [[] for _ in range(self.num_envs - kept)]
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
    self._envs.set_attr('ended', self._is_last.tolist())

  def close(self) -> None:
    """Ends the environments' processes, by force those that hang."""
    if self._envs is None:
      return
    envs, self._envs = self._envs, None
    for pipe in envs.parent_pipes:
      with contextlib.suppress(OSError, AttributeError):  # It is dead already.
        pipe.send(('close', None))
    deadline = time.monotonic() + _CLOSING_SECONDS
    for process in envs.processes:
      process.join(max(0.0, deadline - time.monotonic()))
      if process.is_alive():
        process.kill()
        process.join()
    for pipe in envs.parent_pipes:
      if pipe is not None:
        pipe.close()
    envs.closed = True  # Its own `close` would wait for an interrupted step.

  def _start(self, policy):
    """Opens environments and the policy's state where that is still to do."""
    if self._envs is None:
      self._open()
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
    known = (self._obs_space, self._action_space)
    self._envs = worker.Processes(
        [worker.Make(
            self._recipe, seed=self._seed, index=i, known=known,
            episode=int(self._episodes[i]),
            actions=[] if self._is_last[i] else self._actions[i])
         for i in range(self.num_envs)],
        context='spawn', autoreset_mode=vector.AutoresetMode.DISABLED)
    try:
      obs, info = self._envs.reset()
    except (EOFError, ConnectionError) as error:
      raise self._died() from error
    self._obs = spaces.flatten(self._obs_space, obs, 'observation')
    return np.array(info.get('resume/ended', np.zeros(self.num_envs, bool)))

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
        self._actions[index] = []
        self._episodes[index] += 1
      else:
        self._actions[index].append({
            k: np.array(v[index]) for k, v in actions.items()})
    try:
      obs, reward, terminated, truncated, info = self._envs.step(actions)
      self._deaths = 0
      self._obs = spaces.flatten(self._obs_space, obs, 'observation')
    except (EOFError, ConnectionError) as error:
      reward, terminated, truncated, info = self._revive(error)
    self._is_first = self._is_last
    self._reward = np.asarray(reward, np.float32)
    self._is_terminal = np.asarray(terminated, bool)
    self._is_last = self._is_terminal | truncated
    self.env_steps += int(self.num_envs - self._is_first.sum())
    return self._account(reward, info)

  def _revive(self, error):
    """Starts all processes anew after one died; their episodes are truncated.

    Environments that were to reset do so.
    """
    self._deaths += 1
    if self._deaths > _DEATHS:
      raise self._died() from error
    logging.warning(
        'the process of an environment died; all are started anew and their '
        'episodes truncated')
    self.close()
    cut, last = ~self._is_last, self._obs
    self._actions = [[] for _ in range(self.num_envs)]
    self._open()
    for name, value in self._obs.items():
      value[cut] = last[name][cut]
    self._envs.set_attr('ended', cut.tolist())
    nothing = np.zeros(self.num_envs)
    return nothing, nothing, cut, {
        'log/restarts': cut.astype(float), '_log/restarts': cut}

  def _died(self):
    """Returns the error of processes that die again and again."""
    return errors.UserError(
        f'the process of {self._recipe.kind}.{self._recipe.name} died; look '
        'for a lack of memory, or try it alone with dv3-envcheck')

  def _account(self, reward, info):
    """Sums scores and lengths; returns the episodes that ended here."""
    for index in np.flatnonzero(info.get('_restart/error', False)):
      logging.warning(
          'environment %d was built anew after %s; its episode is truncated',
          index, info['restart/error'][index])
    self._score = np.where(self._is_first, 0.0, self._score + reward)
    self._length = np.where(self._is_first, 0, self._length + 1)
    for index in np.flatnonzero(self._is_first):
      self._extras[index] = {}
    for name, values in info.items():
      if name.startswith('log/'):
        for index in np.flatnonzero(info.get(f'_{name}', True)):
          sums = self._extras[index]
          key = name.removeprefix('log/')
          sums[key] = sums.get(key, 0.0) + float(values[index])
    return [
        types.Episode(
            step=self.env_steps, score=float(self._score[i]),
            length=int(self._length[i]), worker=int(i),
            truncated=not self._is_terminal[i], extras=dict(self._extras[i]))
        for i in np.flatnonzero(self._is_last)]
