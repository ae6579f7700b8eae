"""The actions of an episode, kept so that it can be continued."""

from collections.abc import Iterator
from collections.abc import Mapping

import numpy as np

from dv3 import types

_FIRST_ROOM = 64  # Steps.


class Actions:
  """The policy's actions of one environment since its last reset.

    actions = Actions(action_spec)
    actions.append({name: [...]})
    len(actions), list(actions)

  An action costs its bytes, at most twice, for episodes may never end.

  Args:
    specs: the action entries.
    arrays: {name: [n, ...]} to begin with, what `arrays` returned; {} for none.
  """

  def __init__(
      self, specs: types.Specs, arrays: Mapping[str, np.ndarray] | None = None):
    self._count = len(next(iter(arrays.values()))) if arrays else 0
    self._rows = {
        name: np.array(arrays[name], spec.dtype) if arrays
        else np.empty((0, *spec.shape), spec.dtype)
        for name, spec in specs.items()}

  def __len__(self) -> int:
    """The number of actions."""
    return self._count

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    """Yields {name: [...]} of each step."""
    for index in range(self._count):
      yield {name: rows[index] for name, rows in self._rows.items()}

  def append(self, action: Mapping[str, np.ndarray]) -> None:
    """Adds the action {name: [...]} of one step."""
    for name, rows in self._rows.items():
      if self._count == len(rows):
        rows = np.empty(
            (max(_FIRST_ROOM, 2 * self._count), *rows.shape[1:]), rows.dtype)
        rows[:self._count] = self._rows[name]
        self._rows[name] = rows
      rows[self._count] = action[name]
    self._count += 1

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns {name: [n, ...]}, views; {} where there is no action."""
    if not self._count:
      return {}
    return {name: rows[:self._count] for name, rows in self._rows.items()}
