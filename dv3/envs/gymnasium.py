"""Any environment that is registered with gymnasium."""

import difflib
import importlib.util
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from dv3 import errors
from dv3 import registry
from dv3.envs import wrappers

_EXTRAS = {
    'flappy_bird_gymnasium': 'flappy-bird', 'gymnasium_robotics': 'robotics',
    'highway_env': 'highway', 'imageio': 'mujoco', 'mujoco': 'mujoco',
    'popgym': 'popgym', 'pygame': 'pygame'}
"""The extras of dv3 that bring packages which environments need."""


@registry.register('env', 'gymnasium')
def make(
    *, id: str, kwargs: dict[str, Any] | None = None, action_repeat: int = 1,
    time_limit: int = 0, image: tuple[int, int] | None = None
) -> gymnasium.Env:
  """Makes an environment by its gymnasium id.

  Args:
    id: for example 'CartPole-v1', or 'package.module:Name-v0' to import the
      module that registers it.
    kwargs: further arguments of the environment.
    action_repeat: inner steps of one env step.
    time_limit: env steps until an episode is truncated; 0 keeps the
      environment's own limit, which counts inner steps.
    image: rows and columns of the rendered picture, uint8 RGB, to observe in
      place of the environment's own observation; None keeps the latter.

  Raises:
    UserError: if there is no such id, or its package is not installed.
  """
  kwargs = dict(kwargs or {})
  if image:
    kwargs['render_mode'] = 'rgb_array'
  try:
    env = gymnasium.make(id, **kwargs)
    if image:
      env = gymnasium.wrappers.AddRenderObservation(env)
  except gymnasium.error.DependencyNotInstalled as error:
    raise errors.UserError(
        f'{id} needs a package that is not installed: {error}; '
        f'{_install(str(error)) or "install it"}') from error
  except (gymnasium.error.UnregisteredEnv, ModuleNotFoundError) as error:
    missing = getattr(error, 'name', None)
    if id in gymnasium.registry and missing:
      raise errors.UserError(
          f'{id} needs the package {missing}, which is not installed; '
          f'{_install(missing) or "install it"}') from error
    near = difflib.get_close_matches(id, list(gymnasium.registry), 3, 0.5)
    hint = f'did you mean {" or ".join(near)}?' if near else (
        'import the package that registers it: package.module:Name-v0')
    if id.startswith('ALE/'):
      hint = f'use env.atari, with {errors.pip_install("dv3[atari]")}'
    elif ':' in id and not importlib.util.find_spec(id.split(':')[0]):
      hint = f'{id.split(":")[0]} is not installed; {_install(id) or hint}'
    raise errors.UserError(
        f'gymnasium has no environment {id!r}; {hint}') from error
  if image:
    env = _resized(env, tuple(image))
  if action_repeat != 1:
    env = wrappers.ActionRepeat(env, action_repeat)
  if time_limit:
    env = gymnasium.wrappers.TimeLimit(env, time_limit)
  return env


def _install(text):
  """Returns how to install the first known package in a text, or ''."""
  for package, extra in _EXTRAS.items():
    if package in text.lower():
      return errors.pip_install(f'dv3[{extra}]')
  return ''


def _resized(env, size):
  """Resizes pictures, with a filter as wide as the reduction."""
  resize = lambda picture: np.asarray(Image.fromarray(picture).resize(
      size[::-1], Image.Resampling.BILINEAR))
  space = gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)
  return gymnasium.wrappers.TransformObservation(env, resize, space)
