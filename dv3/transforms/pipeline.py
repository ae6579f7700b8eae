"""Runs transforms between the collector and replay."""

from collections.abc import Callable
from typing import Any

import numpy as np


class Pipeline:
  """Passes every step through all transforms, worker by worker.

    pipeline = Pipeline([transform], replay.add)
    pipeline({name: [n, ...]}, workers)

  Args:
    transforms: `interfaces.Transform` objects, applied in order.
    sink: function (steps {name: [n, ...]}, workers [n]).
  """

  def __init__(self, transforms: list[Any], sink: Callable):
    self._transforms = list(transforms)
    self._sink = sink

  def __call__(self, steps: dict[str, Any], workers) -> None:
    """Takes one step of each of some workers."""
    if not self._transforms:
      self._sink(steps, workers)
      return
    ready = []
    for row, worker in enumerate(np.asarray(workers).tolist()):
      queue = [{name: value[row] for name, value in steps.items()}]
      for transform in self._transforms:
        queue = [done for step in queue for done in transform(step, worker)]
      ready.append((worker, queue))
    # The k-th ready steps of all workers go on together.
    for k in range(max((len(queue) for _, queue in ready), default=0)):
      rows = [(w, queue[k]) for w, queue in ready if k < len(queue)]
      self._sink(
          {name: np.stack([step[name] for _, step in rows]) for name in steps},
          np.array([worker for worker, _ in rows]))

  def state(self) -> list[Any]:
    """Returns the transforms' states, for the checkpoint."""
    return [transform.state() for transform in self._transforms]

  def load(self, state: list[Any]) -> None:
    """Restores `state()`, where the transforms are as many as then."""
    if len(state) == len(self._transforms):
      for transform, one in zip(self._transforms, state, strict=True):
        transform.load(one)
