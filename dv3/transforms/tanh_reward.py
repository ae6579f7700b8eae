"""Squashes rewards."""

import numpy as np

from dv3 import interfaces
from dv3 import registry


@registry.register('transform', 'tanh_reward')
class TanhReward(interfaces.Transform):
  """reward <- tanh(reward), in replay only; scores stay as they are.

  Source: Hafner et al. 2021 (DreamerV2), appendix on hyperparameters, Atari.
  """

  def __call__(self, step, worker):
    del worker
    return [{**step, 'reward': np.tanh(np.float32(step['reward']))}]
