"""RLlib's recipe for several GPUs."""

import math

from dv3 import interfaces
from dv3 import registry
from dv3 import types


@registry.register('scaling', 'sqrt')
class SqrtScaling(interfaces.Scaling):
  """n times the batch and environments, sqrt(n) times the learning rates.

  With several replicas the rates start lower, which lets the world model
  settle first. One replica stays as it is.

  Args:
    priming: factor of the learning rates at first.
    priming_share: share of all updates until the full rate.

  Source: RLlib, README of DreamerV3 and its examples for 4 GPUs (0.4 of the
    rate for 8,000 of the first 10,000 updates).
  """

  def __init__(self, *, priming: float = 0.4, priming_share: float = 0.1):
    self._priming = priming
    self._priming_share = priming_share

  def __call__(self, replicas):
    if replicas == 1:
      return types.Scale()
    return types.Scale(
        replicas, replicas, math.sqrt(replicas), self._priming,
        self._priming_share)
