"""MiniGrid, small worlds seen in part."""

import gymnasium
import numpy as np

from dv3 import registry
from dv3.envs import extras

_NUMBERS = (11, 6, 4)  # Kinds of objects, colours, states of doors.


@registry.register('env', 'minigrid')
def make(
    *, id: str = 'MiniGrid-Empty-5x5-v0', pixels: bool = False,
    tile: int = 8) -> gymnasium.Env:
  """Makes a MiniGrid environment; the text of the mission is left out.

  The agent sees the 7 x 7 cells before it. As symbols, each cell is three
  class indices (object, colour, state), together with the direction; as
  pixels, it is a picture.

  Args:
    id: its gymnasium id.
    pixels: whether to show pictures.
    tile: pixels a cell, so 7 times as many a side.

  Raises:
    UserError: if the package is not installed.

  Source: Chevalier-Boisvert et al. 2023, https://arxiv.org/abs/2306.13831.
  """
  minigrid = extras.load('minigrid.wrappers', 'env.minigrid', 'minigrid')
  env = gymnasium.make(id)
  if pixels:
    env = minigrid.RGBImgPartialObsWrapper(env, tile_size=tile)
    side = env.observation_space['image'].shape
    return gymnasium.wrappers.TransformObservation(
        env, lambda obs: np.asarray(obs['image'], np.uint8),
        gymnasium.spaces.Box(0, 255, side, np.uint8))
  rows, columns, _ = env.observation_space['image'].shape
  numbers = np.tile(_NUMBERS, (rows, columns, 1))
  return gymnasium.wrappers.TransformObservation(
      env, lambda obs: {
          'cells': np.asarray(obs['image'], np.int64),
          'direction': np.int64(obs['direction'])},
      gymnasium.spaces.Dict({
          'cells': gymnasium.spaces.MultiDiscrete(numbers),
          'direction': gymnasium.spaces.Discrete(4)}))
