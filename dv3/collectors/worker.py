"""Environments in processes of their own; TensorFlow is never loaded here."""

import contextlib
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Collection
from typing import Any

import gymnasium
from gymnasium import vector
from gymnasium.vector import async_vector_env

from dv3 import errors
from dv3 import types
from dv3.envs import spaces
from dv3.envs import wrappers

_POLL_SECONDS = 0.5


class Make:
  """Makes the environment of one process, wrapped; picklable.

  It is built at the first reset: what takes long or fails then is a reset that
  does. gymnasium's AsyncVectorEnv also makes one in the main process, to look
  at the spaces, and never resets it.

  Args:
    recipe: what to build.
    seed: of the run.
    index: of the environment.
    known: (observation space, action space) of the wrapped environment.
    episode: number of the next episode.
    first_seed: the seed of that episode, where it is another one.
    actions: the policy's actions of an episode to continue.
    max_restarts: see `wrappers.CrashGuard`.
  """

  def __init__(
      self, recipe: types.Recipe, *, seed: int, index: int, known,
      episode: int = 0, first_seed: int | None = None,
      actions: Collection[dict[str, Any]] = (), max_restarts: int = 5):
    self.known = known
    self._recipe = recipe
    self._seed = seed
    self._index = index
    self._episode = episode
    self._first_seed = first_seed
    self._actions = actions
    self._max_restarts = max_restarts

  def __call__(self) -> gymnasium.Env:
    """Returns the environment, which is not built yet."""
    return _Lazy(self)

  def build(self) -> wrappers.AutoReset:
    """Builds the environment.

    Raises:
      UserError: if that fails, or the spaces are others than `known`.
    """
    try:
      env = wrappers.CrashGuard(
          lambda: wrappers.Checked(self._recipe.build()), self._max_restarts)
    except errors.UserError:
      raise
    except (Exception, SystemExit) as error:
      raise errors.UserError(
          f'environment {self._index} could not be built: '
          f'{wrappers.told(error)}; try it alone with dv3-envcheck') from error
    env = wrappers.PolicyActions(env)
    for name, space, known in zip(
        ('observation', 'action'), (env.observation_space, env.action_space),
        self.known, strict=True):
      if space != known:
        raise errors.UserError(
            f'environment {self._index} has another {name} space than the '
            f'first one: {space}, not {known}; all must be alike')
    env = wrappers.SeededResets(
        env, seed=self._seed, index=self._index, episode=self._episode,
        first_seed=self._first_seed)
    if self._actions:
      env = wrappers.Resume(env, self._actions)
    return wrappers.AutoReset(env)


class _Lazy(gymnasium.Env):
  """Builds its environment at the first reset."""

  def __init__(self, make: Make):
    self.observation_space, self.action_space = make.known
    self._make = make
    self._env: wrappers.AutoReset | None = None

  def end(self):
    """Has the next step reset the environment."""
    self._env.ended = True

  def reset(self, *, seed=None, options=None):
    if self._env is None:
      self._env = self._make.build()
    return self._env.reset(seed=seed, options=options)

  def step(self, action):
    return self._env.step(action)

  def close(self):
    if self._env is not None:
      self._env.close()


class Hung(Exception):
  """An environment did not answer in time."""


class Process:
  """One environment in a spawned process, which may die or hang.

    process = Process(make, seconds=300.0)
    obs, info = process.reset()
    process.send(actions)                           # {name: [1, ...]}
    obs, reward, terminated, truncated, info = process.receive()
    process.close()

  Every array has a leading axis of length 1. A process that died raises
  EOFError or ConnectionError, one that does not answer `Hung`; then only
  `close` may be called. It ends by itself when its parent is gone.

  Args:
    make: the `Make` of the environment.
    seconds: a step or reset that takes longer hangs; 0 waits forever. A
      signal handler may change it while the process is waited for.
  """

  def __init__(self, make: Make, seconds: float = 0.0):
    self.seconds = seconds
    self._start = 0.0
    self._env = _Single(
        [make], context='spawn', worker=_work,
        autoreset_mode=vector.AutoresetMode.DISABLED)

  def reset(self):
    """Resets, and waits for it."""
    self._env.reset_async()
    self._start = time.monotonic()
    self._wait()
    return self._env.reset_wait()

  def send(self, actions) -> None:
    """Starts a step."""
    self._env.step_async(actions)
    self._start = time.monotonic()

  def receive(self):
    """Waits for the step."""
    self._wait()
    return self._env.step_wait()

  def end(self) -> None:
    """Has the next step reset the environment."""
    self._env.call('end')

  def close(self, deadline: float = 0.0) -> None:
    """Ends the process, by force after `deadline` of `time.monotonic()`."""
    process, = self._env.processes
    process.join(max(0.0, deadline - time.monotonic()))
    if process.is_alive():
      process.kill()
      process.join()
    pipe, = self._env.parent_pipes
    if pipe is not None:
      pipe.close()
    self._env.closed = True  # Its own `close` waits for an interrupted step.

  def ask_to_close(self) -> None:
    """Tells the environment to end; `close` waits for it."""
    pipe, = self._env.parent_pipes
    with contextlib.suppress(OSError, AttributeError):  # It is dead already.
      pipe.send(('close', None))

  def _wait(self):
    pipe, = self._env.parent_pipes
    while not pipe.poll(_POLL_SECONDS):
      if 0 < self.seconds <= time.monotonic() - self._start:
        raise Hung(f'did not answer for {self.seconds:g} seconds')


class _Single(vector.AsyncVectorEnv):
  """One process, whose error is raised without a traceback before it."""

  def _raise_if_errors(self, successes):
    if not all(successes):
      _, kind, value, trace = self.error_queue.get()
      error = kind(value)
      error.add_note(trace)  # The process's own, for --debug.
      raise error


def _work(*arguments):
  """Runs in the process: gymnasium's worker, that ends with its parent."""
  follow_parent()
  try:
    async_vector_env._async_worker(*arguments)
  except (EOFError, ConnectionError):
    os._exit(1)  # The parent is gone; nobody wants the traceback.


def follow_parent():
  """Makes this process live until its parent closes it or ends."""
  with contextlib.suppress(OSError):
    # Ctrl-C in a terminal reaches the whole process group, but the trainer
    # needs its environments until it has saved.
    os.setpgid(0, 0)
  # An environment that hangs would not notice that its pipe is closed.
  threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent):
  while os.getppid() == parent:
    time.sleep(_POLL_SECONDS)
  os._exit(1)


def probe(recipe: types.Recipe, seconds: float = 0.0):
  """Builds an environment in a worker and returns its spaces.

  Args:
    recipe: what to build.
    seconds: what takes longer hangs; 0 waits forever.

  Returns:
    (observation space, action space of the wrapped environment, observation
    specs, action specs).

  Raises:
    UserError: if the environment cannot be built or represented, dies or hangs.
  """
  context = multiprocessing.get_context('spawn')
  receiver, sender = context.Pipe(duplex=False)
  process = context.Process(target=_answer, args=(sender, recipe))
  process.start()
  sender.close()
  name = f'{recipe.kind}.{recipe.name}'
  try:
    if not receiver.poll(seconds or None):
      raise errors.UserError(
          f'{name} was not built within {seconds:g} seconds; try it alone in '
          'Python, or raise hang_seconds of the collector')
    error, found = receiver.recv()
  except (EOFError, ConnectionError) as error:
    raise errors.UserError(
        f'the process that built {name} died; try the environment alone in '
        'Python, and check its graphics libraries and memory') from error
  finally:
    process.kill()
    process.join()
    receiver.close()
  if error is not None:
    raise error
  return found


def _answer(sender, recipe):
  """Runs in the process of `probe`, which ends with its parent."""
  follow_parent()
  try:
    answer = None, look(recipe)
  except BaseException as error:  # noqa: BLE001 - whatever an environment raises
    error.add_note(traceback.format_exc())  # For --debug.
    answer = error, None
  sender.send(answer)


def look(recipe: types.Recipe):
  """Does in this process what `probe` does in another one."""
  try:
    env = recipe.build()
  except errors.UserError:
    raise
  except (Exception, SystemExit) as error:
    raise errors.UserError(
        f'{recipe.kind}.{recipe.name} could not be built: '
        f'{wrappers.told(error)}; check its arguments {recipe.kwargs}'
    ) from error
  try:
    return (
        env.observation_space, wrappers.PolicyActions(env).action_space,
        spaces.observation_specs(env.observation_space),
        spaces.action_specs(env.action_space))
  finally:
    env.close()
