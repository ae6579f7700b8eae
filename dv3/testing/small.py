"""Small instances of components, and inputs for them."""

import functools
import inspect
from typing import Any

import numpy as np
import tensorflow as tf

from dv3 import registry
from dv3 import signatures
from dv3 import types
from dv3.distributions import rng as rng_lib

BATCH = 3
LENGTH = 4

SIZES = {
    'deter': 16, 'hidden': 8, 'stoch': 4, 'classes': 4, 'blocks': 4,
    'units': 8, 'layers': 1, 'depth': 4, 'multipliers': (2, 2), 'bins': 21,
    'warmup_updates': 0, 'learning_rate': 1e-2, 'token_size': 5,
    'action_size': 3, 'capacity': 64}
"""Values for arguments by name: small, and the same for everyone. They take the
place of defaults of their own type alone: `units = (64, 64)` stays."""

_PARTS = {'vector': 'mlp', 'image': 'cnn'}

VECTOR = {'numbers': types.Spec((3,), 'float32'),
          'token': types.Spec((), 'int32', (4,))}
NUMBERS = {'numbers': VECTOR['numbers']}
IMAGE = {'image': types.Spec((14, 12, 3), 'uint8')}
ACTION = {'action/move': types.Spec((2,), 'float32'),
          'action/press': types.Spec((), 'int32', (3,))}
FEATURES = {'deter': 16, 'stoch': 16}


def make(kind: str, name: str, kwargs: dict[str, Any] | None = None, **given):
  """Builds a small instance of a component, without its variables.

  Args:
    kind: registry kind.
    name: registered name.
    kwargs: the author's own numbers; they win over `SIZES`.
    **given: what the library passes to components of this kind.
  """
  numbers = sizes(kind, name)
  factory = registry.get(kind, name)
  closed = signatures.accepted(factory)
  given = {k: v for k, v in given.items() if closed is None or k in closed}
  try:
    return factory(**{**numbers, **given, **(kwargs or {})})
  except Exception as error:
    chosen = {k: v for k, v in numbers.items() if k not in (kwargs or {})}
    if chosen:
      error.add_note(
          f'The suite made {kind}.{name} with {chosen}; --dv3-kwargs wins.')
    raise


def sizes(kind: str, name: str) -> dict[str, Any]:
  """Returns those of `SIZES` that suit a constructor's arguments."""
  factory = registry.get(kind, name)
  # What the library gives is taken, if by `**kwargs`.
  numbers = {k: SIZES[k] for k in signatures.given(kind) if k in SIZES}
  for key, parameter in inspect.signature(factory).parameters.items():
    default = parameter.default
    if key in SIZES and (
        default is parameter.empty or type(default) is type(SIZES[key])):
      numbers[key] = SIZES[key]
    # Parts of parts are small too.
    if kind in ('encoder', 'decoder') and key in _PARTS and (
        default is None or callable(default)):
      numbers[key] = functools.partial(make, kind, _PARTS[key])
  return numbers


def takes(kind: str, name: str, argument: str) -> bool:
  """Returns whether a constructor names an argument, its own or a base's.

  One that takes any by `**kwargs` tells nothing.
  """
  closed = signatures.accepted(registry.get(kind, name))
  return closed is not None and argument in closed


def observations(specs: types.Specs, lead=(BATCH, LENGTH), seed: int = 0):
  """Returns {key: tensor [*lead, *shape]} of random values."""
  rng = np.random.default_rng(seed)
  result = {}
  for key, spec in specs.items():
    shape = (*lead, *spec.shape)
    if spec.classes is not None:
      value = rng.integers(0, min(spec.classes), shape).astype(spec.dtype)
    elif spec.dtype == 'uint8':
      value = rng.integers(0, 256, shape).astype(np.uint8)
    else:
      value = rng.normal(size=shape).astype(spec.dtype)
    result[key] = tf.constant(value)
  return result


def features(lead=(BATCH, LENGTH), seed: int = 0):
  """Returns random features of `FEATURES`, [*lead, F] float32."""
  rng = np.random.default_rng(seed)
  return {
      name: tf.constant(rng.normal(size=(*lead, size)), tf.float32)
      for name, size in FEATURES.items()}


def agent(losses=None):
  """Returns a small built agent of the library's own parts.

  Args:
    losses: factories of its losses; the published ones by default.
  """
  from dv3 import agent as agent_lib
  part = lambda kind, name, **kw: functools.partial(make, kind, name, kw)
  built = agent_lib.Agent(
      obs_spec={**VECTOR, **IMAGE}, action_spec=ACTION,
      encoder=part('encoder', 'dict'), core=part('core', 'rssm'),
      decoder=part('decoder', 'dict'), reward=part('head', 'twohot'),
      continuation=part('head', 'binary'), actor=part('head', 'actor'),
      critic=part('head', 'twohot'), losses=losses,
      imagination_horizon=2)
  built.build()
  return built


def batch():
  """Returns random sequences as `Agent.loss` takes them, [B, T, ...]."""
  result = observations({**VECTOR, **IMAGE})
  result |= {f'prev_{k}': v for k, v in observations(ACTION).items()}
  lead = (BATCH, LENGTH)
  result['reward'] = tf.random.stateless_normal(lead, (0, 1))
  for i, key in enumerate(('is_first', 'is_last', 'is_terminal')):
    result[key] = tf.random.stateless_uniform(lead, (1, i)) < 0.3
  return result


def context(built):
  """Returns a `losses.Context` with a dream, of random sequences."""
  rng = rng_lib.Rng(0)
  filtered = built.observe(batch(), rng)
  return filtered._replace(imagined=built.imagine(filtered, rng))
