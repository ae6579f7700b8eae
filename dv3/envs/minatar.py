"""MinAtar, Atari games on a 10 x 10 grid."""

import gymnasium
import numpy as np

from dv3 import errors
from dv3 import registry
from dv3.envs import extras

GAMES = ('asterix', 'breakout', 'freeway', 'seaquest', 'space_invaders')


@registry.register('env', 'minatar')
def make(
    *, game: str = 'breakout', sticky: float = 0.1,
    full_actions: bool = False) -> gymnasium.Env:
  """Makes a MinAtar game, whose 10 x 10 x n planes are a vector of 0 and 1.

  Args:
    game: one of `GAMES`.
    sticky: probability that the previous action is repeated.
    full_actions: all 6 actions in place of the game's own.

  Raises:
    UserError: for another game, or if the package is not installed.

  Source: Young and Tian 2019, https://arxiv.org/abs/1903.03176.
  """
  if game not in GAMES:
    raise errors.UserError(f'env.minatar.game is one of {GAMES}, not {game!r}')
  minatar = extras.load('minatar', 'env.minatar', 'minatar')
  return MinAtar(minatar.Environment(game, sticky), full_actions)


class MinAtar(gymnasium.Env):
  """MinAtar's own interface as gymnasium's."""

  def __init__(self, env, full_actions):
    self._env = env
    count = env.num_actions()
    self._actions = list(range(count)) if full_actions else list(
        env.minimal_action_set())
    self.observation_space = gymnasium.spaces.Box(
        0.0, 1.0, (int(np.prod(env.state_shape())),), np.float32)
    self.action_space = gymnasium.spaces.Discrete(len(self._actions))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    if seed is not None:
      self._env.seed(seed)
    self._env.reset()
    return self._observe(), {}

  def step(self, action):
    reward, done = self._env.act(self._actions[int(action)])
    return self._observe(), float(reward), bool(done), False, {}

  def _observe(self):
    return np.asarray(self._env.state(), np.float32).reshape(-1)
