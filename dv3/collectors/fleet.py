"""Environments in processes, started anew where they fail."""

import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from concurrent import futures
from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np
from absl import logging

from dv3 import errors
from dv3 import types
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


class Start(NamedTuple):
  """Where a process begins.

  Attributes:
    episode: number of the episode, of its environment.
    seed: of that episode.
    actions: the policy's actions to continue it; none to begin with its reset.
  """

  episode: int
  seed: int
  actions: Collection[dict[str, np.ndarray]] = ()


class Arrival(NamedTuple):
  """What an environment gave for a step or a reset.

  Attributes:
    obs: {name: [1, ...]}, the flat observation.
    reward: on arriving at it.
    terminated: whether the episode ended there by itself.
    truncated: whether it ended there in another way.
    info: {name: value}.
  """

  obs: dict[str, np.ndarray]
  reward: float
  terminated: bool
  truncated: bool
  info: dict[str, Any]


class Fleet:
  """Environments in processes, stepped all at once.

    fleet = Fleet(...)
    start = lambda index: Start(episode=0, seed=0)
    arrivals = fleet.open(start)
    arrivals = fleet.step(actions, resets, obs, start)
    fleet.close()

  A process that dies or hangs costs its episode, which is truncated, and is
  started anew.

  Args:
    recipe: of the environment.
    known: (observation space, action space) of the wrapped environment.
    count: how many.
    process: function (worker.Make, seconds) that starts a process.
    seed: of the run.
    hang_seconds: what takes longer hangs; 0 waits forever.
    max_restarts: of an environment in a row, without a whole step between.

  Raises:
    UserError: (`open`, `step`) if an environment fails more often.
  """

  def __init__(
      self, recipe: types.Recipe, known: tuple[Any, Any], *, count: int,
      process: Callable[[worker.Make, float], Process], seed: int,
      hang_seconds: float, max_restarts: int):
    self._recipe = recipe
    self._known = known
    self._process = process
    self._seed = seed
    self._hang_seconds = hang_seconds
    self._max_restarts = max_restarts
    # None where a process has to be started.
    self._processes: list[Process | None] = [None] * count
    self._failures = [0] * count  # In a row, of each process.
    self._hurried = False
    self.opened = False

  @property
  def given_up(self) -> bool:
    """Whether no environment will ever step again."""
    return self._hurried and not any(self._processes)

  def open(self, start: Callable[[int], Start]) -> list[Arrival]:
    """Starts all processes, each where `start` of its index says.

    An episode with which a process fails is not tried again: the process
    begins the next time with a reset.

    Returns:
      what each environment gave. Its info has 'resume/ended' where a recorded
      episode could not be continued.
    """
    arrivals = self._launch(range(len(self._processes)), start)
    self.opened = True
    return list(arrivals.values())

  def step(
      self, actions: Mapping[str, np.ndarray], resets: np.ndarray,
      obs: Mapping[str, np.ndarray], start: Callable[[int], Start],
  ) -> list[Arrival]:
    """Steps or resets every environment, all at once.

    One that failed in a step returns its last observation, truncated; it is
    started when the next episode is due. One that failed in a reset is started
    at once, or, once there is hurry, gives a last step without a first one.

    Args:
      actions: {name: [n, ...]}.
      resets: [n] bool, which environments reset.
      obs: {name: [n, ...]}, the last observations.
      start: where a process begins that is started for a reset.
    """
    arrivals, failed = {}, {}
    for index, process in enumerate(self._processes):
      if process is not None:
        try:
          process.send(_row(actions, index))
        except _FAILURES as error:
          failed[index] = error
    for index, process in enumerate(self._processes):
      if process is not None and index not in failed:
        try:
          arrivals[index] = self._arrival(*process.receive())
          if not resets[index]:
            self._failures[index] = 0
        except _FAILURES as error:
          failed[index] = error
    for index, error in failed.items():
      # At a stop steps that are merely slow count as hanging.
      self._fail(index, error, last=self._hurried)
      if not resets[index]:
        arrivals[index] = Arrival(
            _row(obs, index), 0.0, False, True, {'log/restarts_sum': 1.0})
    rest = [i for i in range(len(self._processes)) if i not in arrivals]
    if self._hurried:  # It would hang again, while everybody waits for the end.
      for index in rest:
        arrivals[index] = Arrival(_row(obs, index), 0.0, False, True, {})
    elif rest:
      arrivals |= self._launch(rest, start)
    return [arrivals[i] for i in range(len(self._processes))]

  def end(self, index: int) -> None:
    """Has the next step reset an environment."""
    process = self._processes[index]
    if process is not None:
      process.end()

  def hurry(self, seconds: float) -> None:
    """Has what takes longer from now on count as hanging; for a clean end.

    Not while environments are being built for the first time.
    """
    if not self.opened:
      return
    self._hurried = True
    if not 0 < self._hang_seconds <= seconds:
      self._hang_seconds = seconds
      for process in self._processes:
        if process is not None:
          process.seconds = seconds

  def close(self) -> None:
    """Ends the processes, by force those that hang."""
    processes = [x for x in self._processes if x is not None]
    self._processes = [None] * len(self._processes)
    self.opened = False
    for process in processes:
      process.ask_to_close()
    deadline = time.monotonic() + _CLOSING_SECONDS
    for process in processes:
      process.close(deadline)

  def _launch(
      self, indices: Collection[int], start: Callable[[int], Start],
  ) -> dict[int, Arrival]:
    """Starts and resets some environments, all at once."""
    with futures.ThreadPoolExecutor(len(indices)) as pool:
      return dict(zip(indices, pool.map(
          self._launch_one, indices, map(start, indices)), strict=True))

  def _launch_one(self, index, start):
    """Starts and resets one environment, again if it fails."""
    ended = {}
    while True:
      make = worker.Make(
          self._recipe, seed=self._seed, index=index, actions=start.actions,
          known=self._known, episode=start.episode, first_seed=start.seed,
          max_restarts=self._max_restarts)
      try:
        # All recorded actions are replayed in this one reset.
        process = self._processes[index] = self._process(
            make, launch_seconds(self._hang_seconds, 1 + len(start.actions)))
        obs, info = process.reset()
        process.seconds = self._hang_seconds
        return self._arrival(obs, [0.0], [False], [False], {**info, **ended})
      except _FAILURES as error:
        self._fail(index, error)
        if start.actions:
          start = start._replace(actions=())
          ended = {'resume/ended': np.array([True])}

  def _fail(self, index, error, last=False):
    """Ends a process that died or hangs; raises UserError at the limit.

    Args:
      index: of the environment.
      error: what happened.
      last: whether it will not be started again anyway, so that no limit holds.
    """
    process, self._processes[index] = self._processes[index], None
    if process is not None:
      process.close()
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

  def _arrival(self, obs, reward, terminated, truncated, info):
    """Returns what a vector environment of one environment gave."""
    return Arrival(
        spaces.flatten(self._known[0], obs, 'observation'), reward[0],
        terminated[0], truncated[0], _only(info))


def launch_seconds(hang_seconds: float, steps: int = 1) -> float:
  """Returns what a start with so many steps may take; 0 is without limit."""
  return hang_seconds and max(_LAUNCH_SECONDS, hang_seconds * steps)


def _row(rows: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
  """Returns the entries [1, ...] of one environment."""
  return {k: v[index: index + 1] for k, v in rows.items()}


def _only(info: dict[str, Any]) -> dict[str, Any]:
  """Returns the info of the only environment of a vector environment."""
  return {
      k: v[0] for k, v in info.items()
      if not k.startswith('_') and isinstance(v, np.ndarray)
      and np.all(info.get(f'_{k}', True))}
