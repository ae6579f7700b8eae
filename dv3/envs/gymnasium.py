"""Any environment that is registered with gymnasium."""

import difflib
from typing import Any

import gymnasium

from dv3 import errors
from dv3 import registry
from dv3.envs import wrappers


@registry.register('env', 'gymnasium')
def make(
    *, id: str, kwargs: dict[str, Any] | None = None, action_repeat: int = 1,
    time_limit: int = 0) -> gymnasium.Env:
  """Makes an environment by its gymnasium id.

  Args:
    id: for example 'CartPole-v1', or 'package.module:Name-v0' to import the
      module that registers it.
    kwargs: further arguments of the environment.
    action_repeat: inner steps of one env step.
    time_limit: env steps until an episode is truncated; 0 keeps the
      environment's own limit, which counts inner steps.

  Raises:
    UserError: if there is no such id, or its package is not installed.
  """
  try:
    env = gymnasium.make(id, **(kwargs or {}))
  except gymnasium.error.DependencyNotInstalled as error:
    raise errors.UserError(
        f'{id} needs a package that is not installed: {error}; install it, '
        'for example with pip install "gymnasium[other]"') from error
  except (gymnasium.error.UnregisteredEnv, ModuleNotFoundError) as error:
    near = difflib.get_close_matches(id, list(gymnasium.registry), 3, 0.5)
    hint = f'did you mean {" or ".join(near)}?' if near else (
        'import the package that registers it: package.module:Name-v0')
    if id.startswith('ALE/'):
      hint = 'use env.atari, with pip install "dv3[atari]"'
    raise errors.UserError(
        f'gymnasium has no environment {id!r}; {hint}') from error
  if action_repeat != 1:
    env = wrappers.ActionRepeat(env, action_repeat)
  if time_limit:
    env = gymnasium.wrappers.TimeLimit(env, time_limit)
  return env
