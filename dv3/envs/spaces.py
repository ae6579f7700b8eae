"""Between gymnasium's spaces and the library's flat entries."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from dv3 import errors
from dv3 import types

_LISTED_BOUNDS = 64  # Elements; an image's would be thousands of numbers.


def observation_specs(space: spaces.Space) -> types.Specs:
  """Flattens an observation space.

  A bare space is called 'observation'; Dict keys are joined with '/', Tuple
  members are numbered.

  Raises:
    UserError: for a space that no entry can represent, listing all of them,
      or for a reserved name.
  """
  specs = _specs(space, 'observation')
  for name in specs:
    if name.split('/')[0] in types.RESERVED:
      raise errors.UserError(
          f'observation key {name!r} is a name that replay needs; rename it in '
          'the environment or in a gymnasium.ObservationWrapper')
  return specs


def action_specs(space: spaces.Space) -> types.Specs:
  """Flattens an action space: 'action', or 'action/<k>' for its members.

  Numbers must have finite bounds; the policy sees them as [-1, 1].

  Raises:
    UserError: for a space that no entry can represent, or unbounded numbers.
  """
  specs = _specs(space, 'action', prefix='action/')
  for name, leaf in _leaves(space, 'action', 'action/'):
    if isinstance(leaf, spaces.Box) and not (
        np.isfinite(leaf.low).all() and np.isfinite(leaf.high).all()):
      raise errors.UserError(
          f'{name} has no finite bounds: {leaf}; give its Box finite bounds, '
          'for example with gymnasium.wrappers.TransformAction (RescaleAction '
          'needs them too)')
  return specs


def flatten(
    space: spaces.Space, value: Any, name: str
) -> dict[str, np.ndarray]:
  """Flattens a batched value [n, ...] of a space, to the specs' dtypes.

  Args:
    space: the space of one value.
    value: nest of arrays with a leading axis.
    name: what a bare space is called.
  """
  if isinstance(space, spaces.Dict):
    pairs = [(k, space[k], value[k]) for k in space.spaces]
  elif isinstance(space, spaces.Tuple):
    pairs = [(str(i), s, v) for i, (s, v) in enumerate(
        zip(space.spaces, value, strict=True))]
  else:
    return {name: _canonical(space, np.asarray(value))}
  result = {}
  for key, inner, part in pairs:
    for path, array in flatten(inner, part, '').items():
      result[f'{key}/{path}' if path else key] = array
  return result


def unflatten_action(space: spaces.Space, actions: dict[str, np.ndarray]):
  """Turns the policy's entries of one step into an action of the space.

  Args:
    space: the action space.
    actions: {name: array} without a leading axis; numbers in [-1, 1] are
      mapped to the bounds and clipped.
  """
  if isinstance(space, spaces.Dict | spaces.Tuple):
    return _unflatten(space, actions, 'action/')
  return _denormalise(space, actions['action'])


def _unflatten(space, actions, prefix):
  if isinstance(space, spaces.Dict):
    return {
        k: _unflatten(s, actions, f'{prefix}{k}/')
        for k, s in space.spaces.items()}
  if isinstance(space, spaces.Tuple):
    return tuple(
        _unflatten(s, actions, f'{prefix}{i}/')
        for i, s in enumerate(space.spaces))
  return _denormalise(space, actions[prefix[:-1]])


def _denormalise(space, value):
  value = np.asarray(value)
  if isinstance(space, spaces.Discrete):
    return space.dtype.type(int(value) + int(space.start))
  if isinstance(space, spaces.MultiDiscrete):
    return (value.reshape(space.shape) + space.start).astype(space.dtype)
  if isinstance(space, spaces.MultiBinary):
    return value.reshape(space.shape).astype(space.dtype)
  low, high = (x.astype(np.float64) for x in (space.low, space.high))
  scaled = low + (np.clip(value, -1, 1).reshape(space.shape) + 1) / 2 * (
      high - low)
  if space.dtype.kind in 'biu':
    scaled = np.round(scaled)
  # Rounding of the sum could leave the bounds by one unit in the last place.
  return np.asarray(np.clip(scaled, low, high), space.dtype)


def _canonical(space, value):
  """Casts a batched leaf to its spec's dtype, class indices from 0."""
  if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
    return (value - space.start).astype(np.int32)
  if isinstance(space, spaces.MultiBinary):
    return value.astype(np.int32)
  return np.asarray(value, _number_dtype(space))


def _specs(space, name, prefix=''):
  leaves = list(_leaves(space, name, prefix))
  specs = {n: spec for n, s in leaves if (spec := _leaf(s)) is not None}
  names = [n for n, _ in leaves]
  double = sorted({n for n in names if names.count(n) > 1})
  if double:
    raise errors.UserError(
        f'two entries would be called {double[0]!r}, as nested keys are joined '
        "with '/'; rename one in the environment")
  bad = [f'{n}: {s}' for n, s in leaves if n not in specs]
  if bad or not leaves:
    listed = ', '.join(f'{n}: {s}' for n, s in leaves) or str(space)
    raise errors.UserError(
        f'no entry can represent {"; ".join(bad) or "an empty space"} (of '
        f'{listed}); leave it out, or convert it to Box, Discrete, '
        'MultiDiscrete or MultiBinary in a wrapper')
  return specs


def _leaves(space, name, prefix):
  """Yields (flat name, leaf space)."""
  if isinstance(space, spaces.Dict):
    pairs = list(space.spaces.items())
  elif isinstance(space, spaces.Tuple):
    pairs = [(str(i), s) for i, s in enumerate(space.spaces)]
  else:
    yield (name, space)
    return
  for key, inner in pairs:
    yield from _leaves(inner, f'{prefix}{key}', f'{prefix}{key}/')


def _leaf(space) -> types.Spec | None:
  """Returns the entry of one leaf space; None if there is none."""
  if isinstance(space, spaces.Discrete):
    return types.Spec((), 'int32', (int(space.n),))
  if isinstance(space, spaces.MultiDiscrete):
    return types.Spec(
        tuple(space.nvec.shape), 'int32',
        tuple(int(x) for x in space.nvec.reshape(-1)))
  if isinstance(space, spaces.MultiBinary):
    shape = tuple(space.shape)
    return types.Spec(shape, 'int32', (2,) * int(np.prod(shape)))
  if (not isinstance(space, spaces.Box) or space.dtype.kind not in 'biuf'
      or 0 in space.shape):
    return None
  low = high = None
  if np.isfinite(space.low).all() and np.isfinite(space.high).all():
    low, high = _bounds(space.low, np.min), _bounds(space.high, np.max)
  return types.Spec(tuple(space.shape), _number_dtype(space), None, low, high)


def _bounds(values, outer):
  """Returns one number an element; the outermost alone if they are many."""
  if values.size > _LISTED_BOUNDS:
    return (float(outer(values)),)
  return tuple(float(x) for x in values.reshape(-1))


def _number_dtype(space) -> str:
  """Returns the dtype of a Box's entry: only images stay uint8."""
  image = space.dtype == np.uint8 and len(space.shape) in (2, 3)
  return 'uint8' if image else 'float32'


def describe(space: gymnasium.Space) -> str:
  """Returns the keys and leaf spaces of a space for people."""
  return ', '.join(f'{n}: {s}' for n, s in _leaves(space, 'observation', ''))
