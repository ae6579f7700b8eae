"""Wrappers that every environment gets in its worker."""

import contextlib
import pathlib
import traceback
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np

from dv3 import errors
from dv3.envs import spaces

# What an environment may raise; sys.exit() in one must not end the run.
_RAISED = Exception, SystemExit, KeyboardInterrupt
_OWN = str(pathlib.Path(errors.__file__).parent)


class ActionRepeat(gymnasium.Wrapper):
  """Repeats each action, and stops at the episode's end.

  Rewards are summed, as are the numbers 'log/...' of `info`.

  Args:
    env: the environment.
    repeat: inner steps of one env step, at least 1.
  """

  def __init__(self, env: gymnasium.Env, repeat: int):
    super().__init__(env)
    if repeat < 1:
      raise errors.UserError(f'action_repeat is {repeat}; it is at least 1')
    self._repeat = repeat

  def step(self, action):
    total, logged = 0.0, {}
    for _ in range(self._repeat):
      obs, reward, terminated, truncated, info = self.env.step(action)
      total += _number(reward)
      for name, value in _logged(info).items():
        logged[name] = logged.get(name, 0.0) + value
      if terminated or truncated:
        break
    return obs, total, terminated, truncated, {**info, **logged}


class PolicyActions(gymnasium.Wrapper):
  """Takes the policy's flat entries in place of the environment's actions.

  The action space is a Dict of the flat entries: numbers in [-1, 1] are mapped
  to the bounds, class indices count from 0.
  """

  def __init__(self, env: gymnasium.Env):
    super().__init__(env)
    self._specs = spaces.action_specs(env.action_space)
    self.action_space = gymnasium.spaces.Dict({
        name: gymnasium.spaces.MultiDiscrete(
            np.reshape(spec.classes, spec.shape), dtype=np.int32)
        if spec.classes and spec.shape else gymnasium.spaces.Discrete(
            spec.classes[0], dtype=np.int32) if spec.classes else (
                gymnasium.spaces.Box(-np.inf, np.inf, spec.shape, np.float32))
        for name, spec in self._specs.items()})

  def step(self, action):
    return self.env.step(
        spaces.unflatten_action(self.env.action_space, action))


class SeededResets(gymnasium.Wrapper):
  """Resets episode n with a seed made of (seed, environment, n).

  So a run can be replayed: the same episode number starts the same episode.

  Args:
    env: the environment.
    seed: of the run.
    index: of the environment.
    episode: number of the next episode.
    first_seed: in place of `seed` at the first reset: an episode to continue
      may have started in a run with another seed.
  """

  def __init__(
      self, env, *, seed: int, index: int, episode: int = 0,
      first_seed: int | None = None):
    super().__init__(env)
    self._seed = seed
    self._first_seed = seed if first_seed is None else first_seed
    self._index = index
    self.episode = episode

  def reset(self, *, seed=None, options=None):
    del seed
    sequence = np.random.SeedSequence(
        (self._first_seed, self._index, self.episode))
    self._first_seed = self._seed
    self.episode += 1
    number = int(sequence.generate_state(1)[0]) % 2 ** 31
    return self.env.reset(seed=number, options=options)


class Resume(gymnasium.Wrapper):
  """Replays recorded actions at the first reset, to continue an episode.

  The observation is returned as if the last recorded step had just happened.
  `info['resume/ended']` tells that the episode ended before that step, as one
  that is not deterministic may.

  Args:
    env: the environment, whose next reset starts the recorded episode.
    actions: the actions since that reset.
  """

  def __init__(self, env, actions: Iterable[Any]):
    super().__init__(env)
    self._actions = actions

  def reset(self, *, seed=None, options=None):
    obs, info = self.env.reset(seed=seed, options=options)
    actions, self._actions = self._actions, ()
    for action in actions:
      obs, _, terminated, truncated, info = self.env.step(action)
      if terminated or truncated:
        return obs, {**info, 'resume/ended': True}
    return obs, info


class Checked(gymnasium.Wrapper):
  """Raises where an environment returns what learning cannot use.

  That is an observation of another shape than its space says, one that is no
  number, floats or too large numbers where the space's dtype is an integer
  (they would be stored as others), and NaN or infinities in observation or
  reward (after the conversion to float32, as replay stores them). Values out of
  bounds are let through: many environments return them. Of `info` the numbers
  'log/...' go on, the rest stays in this process.

  Raises:
    ValueError: naming the entry and what is wrong with it.
  """

  def __init__(self, env: gymnasium.Env):
    super().__init__(env)
    self._leaves = list(_leaves(env.observation_space, 'observation', ()))

  def reset(self, *, seed=None, options=None):
    result = self.env.reset(seed=seed, options=options)
    obs, info = _parts(result, 'reset', ('observation', 'info'))
    self._check(obs)
    return obs, _logged(info)

  def step(self, action):
    obs, reward, terminated, truncated, info = _parts(
        self.env.step(action), 'step',
        ('observation', 'reward', 'terminated', 'truncated', 'info'))
    self._check(obs)
    number = np.asarray(reward)
    if number.size != 1:
      raise ValueError(f'the reward has shape {number.shape}, not ()')
    if not _finite(number):
      raise ValueError(f'the reward is {number.item()}')
    return obs, _number(number), terminated, truncated, _logged(info)

  def _check(self, obs):
    for name, path, shape, dtype in self._leaves:
      value = obs
      for key in path:
        try:
          value = value[key]
        except (KeyError, IndexError, TypeError):
          raise ValueError(f'the observation has no {name}') from None
      value = np.asarray(value)
      if value.shape != shape:
        raise ValueError(
            f'the observation {name!r} has shape {value.shape}, not {shape}')
      if value.dtype.kind not in 'biuf':
        raise ValueError(
            f'the observation {name!r} is {value.dtype}, not a number')
      if dtype.kind != 'f':
        _check_whole(name, value, dtype)
      elif not _finite(value):
        raise ValueError(
            f'the observation {name!r} has {_not_finite(value)}')


def _number(reward) -> float:
  """Returns a reward, which may be an array of one number."""
  return float(np.asarray(reward).reshape(()))


def _parts(result, method, names):
  """Returns what a method of an environment returned, if it is whole."""
  if not isinstance(result, tuple) or len(result) != len(names):
    what = f'{len(result)} values' if isinstance(result, tuple) else (
        f'one {type(result).__name__}')
    raise ValueError(
        f'{method} returned {what}, not ({", ".join(names)}), as gymnasium\'s '
        'interface has it')
  return result


def _logged(info) -> dict[str, float]:
  """Returns the numbers of an `info` that are summed over episodes."""
  if not isinstance(info, dict):
    raise ValueError(f'info is a {type(info).__name__}, not a dict')
  logged = {}
  for name, value in info.items():
    if str(name).startswith('log/'):
      number = np.asarray(value)
      if number.size != 1 or number.dtype.kind not in 'biuf' or (
          not np.isfinite(number).all()):
        raise ValueError(
            f'info has {name} = {value!r}; what begins with log/ is summed '
            'over an episode and has to be one finite number')
      logged[name] = float(number.reshape(()))
  return logged


def _check_whole(name, value, dtype):
  """Raises ValueError where a cast to an integer dtype would change numbers."""
  if value.dtype.kind == 'f':
    raise ValueError(
        f'the observation {name!r} is {value.dtype}, but its space is {dtype}, '
        'which would cut off fractions; convert it in the environment (a '
        'picture in [0, 1] times 255), or give its space a float dtype')
  if np.can_cast(value.dtype, dtype):
    return
  wrong = value[value.astype(dtype) != value]
  if wrong.size:
    raise ValueError(
        f'the observation {name!r} has {wrong.flat[0]}, which its space\'s '
        f'{dtype} cannot hold; give the space a larger dtype')


def _leaves(space, name, path):
  """Yields (name, keys on the way, shape, dtype) of leaf spaces."""
  if isinstance(space, gymnasium.spaces.Dict):
    parts = list(space.spaces.items())
  elif isinstance(space, gymnasium.spaces.Tuple):
    parts = list(enumerate(space.spaces))
  else:
    parts = []
  for key, part in parts:
    inner = '/'.join(map(str, (*path, key)))
    yield from _leaves(part, inner, (*path, key))
  if not isinstance(space, gymnasium.spaces.Dict | gymnasium.spaces.Tuple):
    yield name, path, space.shape, np.dtype(space.dtype)


def _finite(value) -> bool:
  """Whether every number is finite as float32."""
  with np.errstate(over='ignore'):
    return bool(np.isfinite(np.asarray(value, np.float32)).all())


def _not_finite(value) -> str:
  """Names the first number that is not finite as float32."""
  with np.errstate(over='ignore'):
    narrow = value.astype(np.float32)
  return str(narrow[~np.isfinite(narrow)].flat[0])


class CrashGuard(gymnasium.Wrapper):
  """Rebuilds an environment that raises, and truncates its episode.

  `info['log/restarts_sum']` is 1 at a step that ended in a restart,
  `info['restart/error']` the error with its place.

  Args:
    make: builds the environment.
    limit: restarts in a row, without a whole step between; one more ends the
      run.

  Raises:
    UserError: when the limit is passed, with the last error and its place.
  """

  def __init__(self, make: Callable[[], gymnasium.Env], limit: int = 5):
    super().__init__(make())
    self._make = make
    self._limit = limit
    self._failures = 0
    self._last: Any = None

  def reset(self, *, seed=None, options=None):
    while True:
      try:
        self._last, info = self.env.reset(seed=seed, options=options)
        return self._last, info
      except errors.UserError:
        raise
      except _RAISED as error:
        self._rebuild(error)

  def step(self, action):
    try:
      obs, reward, terminated, truncated, info = self.env.step(action)
      self._failures = 0
      self._last = obs
      return obs, reward, terminated, truncated, info
    except errors.UserError:
      raise
    except _RAISED as error:
      self._rebuild(error)
      return self._last, 0.0, False, True, {
          'log/restarts_sum': 1.0, 'restart/error': told(error)}

  def _rebuild(self, error):
    while True:
      self._failures += 1
      if self._failures > self._limit:
        raise errors.UserError(
            f'the environment failed {self._failures} times in a row, last '
            f'with {told(error)}; try it alone with dv3-envcheck'
            if self._limit else
            f'the environment failed with {told(error)}') from error
      with contextlib.suppress(*_RAISED):  # It is broken already.
        self.env.close()
      try:
        self.env = self._make()
        return
      except _RAISED as another:
        error = another


def told(error: BaseException) -> str:
  """Returns an error with its place, the innermost that a user has written.

    KeyError('speed') at /home/me/bad_env.py:9 in physics

  Of installed packages it is the innermost one, too, if the user's own code is
  not on the way; what dv3 itself raises has no place.
  """
  frames = traceback.extract_tb(error.__traceback__)
  frames = [x for x in frames if not x.filename.startswith(_OWN)]
  mine = [x for x in frames if 'site-packages' not in x.filename] or frames
  return repr(error) + (
      f' at {mine[-1].filename}:{mine[-1].lineno} in {mine[-1].name}'
      if mine else '')


class AutoReset(gymnasium.Wrapper):
  """Resets at the step after an episode's end, whose action is not used.

  That step returns the first observation of the next episode with reward 0.
  Setting `ended` abandons an episode.
  """

  def __init__(self, env: gymnasium.Env):
    super().__init__(env)
    self.ended = False

  def reset(self, *, seed=None, options=None):
    self.ended = False
    return self.env.reset(seed=seed, options=options)

  def step(self, action):
    if self.ended:
      obs, info = self.reset()
      return obs, 0.0, False, False, info
    obs, reward, terminated, truncated, info = self.env.step(action)
    self.ended = bool(terminated or truncated)
    return obs, float(reward), bool(terminated), bool(truncated), info
