"""MiniWorld, rooms in the first person."""

import gymnasium

from dv3 import errors
from dv3 import nearest
from dv3 import registry
from dv3.envs import extras


@registry.register('env', 'miniworld')
def make(
    *, id: str = 'MiniWorld-Hallway-v0', size: tuple[int, int] = (64, 64)
) -> gymnasium.Env:
  """Makes a MiniWorld environment: pictures, drawn without a screen.

  Args:
    id: its gymnasium id.
    size: rows and columns of the picture.

  Raises:
    UserError: for another id, or if the package is not installed.

  Source: Chevalier-Boisvert et al. 2023, https://arxiv.org/abs/2306.13831.
  """
  pyglet = extras.load('pyglet', 'env.miniworld', 'miniworld')
  pyglet.options['headless'] = True  # Read when miniworld is imported.
  try:
    extras.load('miniworld', 'env.miniworld', 'miniworld')
  except errors.UserError as error:
    if 'EGL' not in str(error):
      raise
    raise errors.UserError(
        f'{error}; its pictures need apt-get install libegl1') from error
  if id not in gymnasium.registry:
    names = [x for x in gymnasium.registry if x.startswith('MiniWorld')]
    raise errors.UserError(
        f'there is no MiniWorld environment {id!r}; {nearest.hint(id, names)}')
  env = gymnasium.make(id, obs_height=size[0], obs_width=size[1])
  return gymnasium.wrappers.TransformReward(env, float)  # Some are integers.
