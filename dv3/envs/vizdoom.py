"""ViZDoom, tasks in the first person."""

import contextlib
import os
import tempfile
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from dv3 import errors
from dv3 import nearest
from dv3 import registry
from dv3.envs import extras


@registry.register('env', 'vizdoom')
def make(
    *, id: str = 'VizdoomBasic-v1', size: tuple[int, int] = (64, 64),
    frame_skip: int = 4, variables: bool = True) -> gymnasium.Env:
  """Makes a ViZDoom task: the screen, and what the game counts.

  Args:
    id: its gymnasium id.
    size: rows and columns of the screen, which Pillow's bilinear filter
      reduces.
    frame_skip: frames of one env step.
    variables: whether to observe what the task counts, such as health, as a
      vector beside the screen; only tasks that count something have it.

  Raises:
    UserError: for another id, or if the package is not installed.

  Source: Kempka et al. 2016, https://arxiv.org/abs/1605.02097.
  """
  extras.load('vizdoom.gymnasium_wrapper', 'env.vizdoom', 'vizdoom')
  if id not in gymnasium.registry:
    tasks = [x for x in gymnasium.registry if x.startswith('Vizdoom')]
    raise errors.UserError(
        f'there is no ViZDoom task {id!r}; {nearest.hint(id, tasks)}')
  env: Any = Elsewhere(gymnasium.make(id, frame_skip=frame_skip))
  spaces: dict[str, gymnasium.Space] = {
      'screen': gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)}
  inner = env.observation_space['screen'].shape
  if variables and 'gamevariables' in env.observation_space.spaces:
    spaces['variables'] = env.observation_space['gamevariables']
  def observe(obs):
    screen = obs['screen']
    if inner[:2] != tuple(size):
      screen = np.asarray(Image.fromarray(screen).resize(
          (size[1], size[0]), Image.Resampling.BILINEAR))
    result = {'screen': screen}
    if 'variables' in spaces:
      result['variables'] = np.asarray(obs['gamevariables'], np.float32)
    return result
  return gymnasium.wrappers.TransformObservation(
      env, observe, gymnasium.spaces.Dict(spaces))


class Elsewhere(gymnasium.Wrapper):
  """Lets the game, which starts with a reset, write into the temporary folder.

  It would leave its settings and a folder where the program runs.
  """

  def __init__(self, env: Any):
    super().__init__(env)
    self._folder = tempfile.gettempdir()
    env.unwrapped.game.set_doom_config_path(
        os.path.join(self._folder, f'vizdoom-{os.getpid()}.ini'))

  def reset(self, *, seed=None, options=None):
    with contextlib.chdir(self._folder):
      return self.env.reset(seed=seed, options=options)
