"""A memory task: the cue shows only at the first step."""

import gymnasium
import numpy as np

from dv3 import errors
from dv3 import registry


@registry.register('env', 'memory')
class Memory(gymnasium.Env):
  """Remember the cue of the first step, and name it at the last.

  The observation is [cue one-hot, time left in (0, 1]] float32; the cue is all
  zeros after the first step. An episode has `length` steps; the action of the
  last one earns 1 if it equals the cue, else 0. Whoever forgets earns 1 / cues
  on average.

  Args:
    length: steps of an episode, at least 2.
    cues: how many cues, and actions; at least 2.

  Raises:
    UserError: for a length or number of cues below 2.
  """

  def __init__(self, *, length: int = 4, cues: int = 2):
    if length < 2 or cues < 2:
      raise errors.UserError(
          'env.memory.length and env.memory.cues are at least 2; not '
          f'{length} and {cues}')
    self._length = length
    self._cues = cues
    self.observation_space = gymnasium.spaces.Box(
        0, 1, (cues + 1,), np.float32)
    self.action_space = gymnasium.spaces.Discrete(cues)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    self._cue = int(self.np_random.integers(self._cues))
    self._step = 0
    return self._observe(), {}

  def step(self, action):
    self._step += 1
    done = self._step == self._length
    reward = float(done and int(action) == self._cue)
    return self._observe(), reward, done, False, {}

  def _observe(self):
    obs = np.zeros(self._cues + 1, np.float32)
    if not self._step:
      obs[self._cue] = 1.0
    obs[-1] = 1.0 - self._step / self._length
    return obs
