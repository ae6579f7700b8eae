"""A 3x3 grid world seen as pixels."""

import gymnasium
import numpy as np

from dv3 import errors
from dv3 import registry

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CELLS = 3


@registry.register('env', 'gridworld')
class GridWorld(gymnasium.Env):
  """Walk to the goal in a 3x3 grid, from 32x32 RGB pixels.

  The agent is blue, the goal green, both start in different random cells.
  Actions are up, down, left, right; walls stop. Reaching the goal earns 1 and
  ends the episode; after `length` steps it is truncated.

  Args:
    length: steps until truncation.
    size: pixels a side, at least 12.

  Raises:
    UserError: for a length below 1 or a size below 12.
  """

  def __init__(self, *, length: int = 20, size: int = 32):
    if length < 1 or size < 12:
      raise errors.UserError(
          'env.gridworld.length is at least 1 and env.gridworld.size at least '
          f'12; not {length} and {size}')
    self._length = length
    self._size = size
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (size, size, 3), np.uint8)
    self.action_space = gymnasium.spaces.Discrete(len(_MOVES))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    agent, goal = self.np_random.choice(_CELLS ** 2, 2, replace=False)
    self._agent = divmod(int(agent), _CELLS)
    self._goal = divmod(int(goal), _CELLS)
    self._step = 0
    return self._draw(), {}

  def step(self, action):
    self._step += 1
    move = _MOVES[int(action)]
    self._agent = tuple(
        int(np.clip(x + d, 0, _CELLS - 1))
        for x, d in zip(self._agent, move, strict=True))
    done = self._agent == self._goal
    return (
        self._draw(), float(done), done,
        not done and self._step >= self._length, {})

  def _draw(self):
    image = np.full((self._size, self._size, 3), 40, np.uint8)
    edges = np.linspace(0, self._size, _CELLS + 1).round().astype(int)
    for cell, colour in (
        (self._goal, (60, 200, 80)), (self._agent, (70, 110, 240))):
      rows, columns = (slice(edges[x] + 1, edges[x + 1] - 1) for x in cell)
      image[rows, columns] = colour
    return image
