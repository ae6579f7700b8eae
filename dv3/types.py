"""Named structures shared by every part, and the table of dimension letters.

This module imports NumPy only, so that environment workers, which must never
load TensorFlow, can use it.

Dimension letters used in docstrings and trailing comments:

| letter | meaning                                | letter | meaning           |
|--------|----------------------------------------|--------|-------------------|
| B      | batch (sequences, or environments)     | S      | latent groups     |
| T      | time steps of a training sequence      | C      | classes per group |
| K      | replay context steps before a sequence | A      | action encoding   |
| L      | K + T, the stored sequence length      | F      | feature size      |
| H      | imagination horizon                    | U      | hidden units      |
| N      | imagination starts, B * T              | G      | blocks            |
| E      | token size                             | M      | two-hot bins      |
| D      | deterministic state size               | Y X Z  | row, column, ch.  |
"""

from typing import Any
from typing import NamedTuple

import numpy as np


class Spec(NamedTuple):
  """The description of one flat observation or action entry.

  Attributes:
    shape: the entry's shape without batch or time axes; () for a scalar.
    dtype: the NumPy name of its dtype, for example 'uint8'.
    classes: for categorical entries, the number of classes of each element in
      row-major order (one number for a Discrete scalar); None for numbers. A
      MultiBinary space is a Spec with two classes per element.
    low: the lower bound of each element, flattened in row-major order, or of a
      large entry one number that bounds all elements; None where the space
      gives none. Only finite bounds are stored.
    high: the upper bound likewise.
  """

  shape: tuple[int, ...]
  dtype: str
  classes: tuple[int, ...] | None = None
  low: tuple[float, ...] | None = None
  high: tuple[float, ...] | None = None

  @property
  def size(self) -> int:
    """The number of elements of the entry."""
    return int(np.prod(self.shape, dtype=np.int64))

  @property
  def is_discrete(self) -> bool:
    """Whether the entry holds class indices."""
    return self.classes is not None

  @property
  def is_image(self) -> bool:
    """Whether the entry is a uint8 array [Y, X, ch] or [Y, X]."""
    return (
        self.classes is None
        and self.dtype == 'uint8'
        and len(self.shape) in (2, 3)
    )

  @property
  def encoded_size(self) -> int:
    """The length of the entry as a flat vector, one-hot where discrete."""
    return sum(self.classes) if self.classes is not None else self.size


Specs = dict[str, Spec]
"""Flat name -> Spec. Nested Dict keys are joined with '/', Tuple members are
numbered, a bare observation is called 'observation', a bare action 'action',
and the members of a Dict or Tuple action 'action/<name>'."""

RESERVED = (
    'reward', 'is_first', 'is_last', 'is_terminal', 'stepid', 'item', 'action',
    'prev_action', 'latent')
"""Names that time steps and training batches have besides observations; an
observation has none of them, nor 'action/...' and the like."""

FLAGS = {
    'reward': Spec((), 'float32'), 'is_first': Spec((), 'bool'),
    'is_last': Spec((), 'bool'), 'is_terminal': Spec((), 'bool')}
"""The entries of every time step besides observations, actions and latents."""


class OneHotSize(int):
  """The size of a feature of one-hot groups, of G groups of C classes.

  An integer, G * C, that says more: each group most likely has one element of
  1, and 0 elsewhere. Parts that know may look, and multiply faster.

  Args:
    size: G * C.
    classes: C.
  """

  classes: int

  def __new__(cls, size: int, classes: int):
    self = super().__new__(cls, size)
    self.classes = classes
    return self

  def __getnewargs__(self):
    return int(self), self.classes


class Recipe(NamedTuple):
  """What a worker process needs to build a component: no gin, no closures.

  Attributes:
    kind: the registry kind, for example 'env'.
    name: the registered name, for example 'gymnasium'.
    kwargs: resolved keyword arguments, plain picklable values.
    plugins: the plugins (module names or file paths) to load first.
    last_resort: plugins to load if it cannot be built without them: one of them
      may register the gymnasium id that a part of the library is asked for.
      They are not loaded otherwise, since most bring TensorFlow.
  """

  kind: str
  name: str
  kwargs: dict[str, Any]
  plugins: tuple[str, ...] = ()
  last_resort: tuple[str, ...] = ()

  def build(self, **extra: Any) -> Any:
    """Builds the component in this process.

    Args:
      **extra: further keyword arguments, which win over `kwargs`.

    Returns:
      Whatever the component's factory returns.
    """
    from dv3 import errors  # Late: the registry imports this module.
    from dv3 import registry

    registry.load_plugins(self.plugins)
    make = lambda: registry.get(self.kind, self.name)(
        **{**self.kwargs, **extra})
    try:
      return make()
    except errors.UserError:
      if not self.last_resort:
        raise
    registry.load_plugins(self.last_resort)
    return make()


class Scale(NamedTuple):
  """Factors for several replicas; see `interfaces.Scaling`.

  Attributes:
    batch: of the batch size, over all replicas together.
    environments: of the number of environments.
    learning_rate: of every learning rate, once the priming is over.
    priming: of every learning rate at first.
    priming_share: share of all updates until the full factor; it is reached
      along a straight line over the last fifth of the priming.
  """

  batch: int = 1
  environments: int = 1
  learning_rate: float = 1.0
  priming: float = 1.0
  priming_share: float = 0.0


class Episode(NamedTuple):
  """One finished episode.

  Attributes:
    step: env steps over all environments when it ended.
    score: the undiscounted sum of rewards, in environment units.
    length: env steps in the episode.
    worker: index of the environment.
    truncated: whether it ended for another reason than a terminal state.
    extras: further sums to log, by name.
  """

  step: int
  score: float
  length: int
  worker: int
  truncated: bool
  extras: dict[str, float]


def freeze(specs: Specs) -> tuple[tuple[str, Spec], ...]:
  """Returns the specs as a tuple sorted by name.

  Keras turns a dictionary attribute into a wrapper that checkpoints refuse
  once it changed; a tuple stays what it is.
  """
  return tuple(sorted(specs.items()))
