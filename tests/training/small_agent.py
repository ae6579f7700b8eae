"""A tiny agent and made-up batches, for tests of the training code."""

import functools

import numpy as np

from dv3 import agent as agent_lib
from dv3 import registry
from dv3 import types

OBS_SPEC = {
    'vector': types.Spec((3,), 'float32'),
    'token': types.Spec((), 'int32', (4,))}
IMAGE = {'image': types.Spec((16, 16, 3), 'uint8')}
ACTION_SPEC = {
    'action/move': types.Spec((2,), 'float32'),
    'action/press': types.Spec((), 'int32', (3,))}


def part(kind, name, **kwargs):
  return functools.partial(registry.get(kind, name), **kwargs)


def make(compute_dtype='float32', images=False, **kwargs):
  """Returns an unbuilt agent of a few thousand parameters."""
  pictures = {'depth': 4, 'multipliers': (2, 2)}
  vector = {'units': 8, 'layers': 1}
  parts = {
      'encoder': part(
          'encoder', 'dict', vector=part('encoder', 'mlp', **vector),
          image=part('encoder', 'cnn', **pictures)),
      'decoder': part(
          'decoder', 'dict', vector=part('decoder', 'mlp', **vector),
          image=part('decoder', 'cnn', units=8, blocks=4, **pictures)),
      'core': part(
          'core', 'rssm', deter=16, hidden=8, stoch=4, classes=4, blocks=4),
      'reward': part('head', 'twohot', units=8, layers=1, bins=41),
      'continuation': part('head', 'binary', units=8),
      'actor': part('head', 'actor', units=8, layers=1),
      'critic': part('head', 'twohot', units=8, layers=1, bins=41)}
  defaults = {
      'obs_spec': {**OBS_SPEC, **(IMAGE if images else {})},
      'action_spec': ACTION_SPEC, 'imagination_horizon': 3}
  return agent_lib.Agent(
      compute_dtype=compute_dtype, **{**defaults, **parts, **kwargs})


def batch(size=4, length=5, seed=0, images=False):
  """Returns a batch of NumPy arrays as `Agent.loss` takes it."""
  rng = np.random.default_rng(seed)
  lead = (size, length)
  flag = lambda share: rng.random(lead) < share
  is_terminal = flag(0.1)
  pictures = {} if not images else {
      'image': rng.integers(0, 256, (*lead, 16, 16, 3)).astype(np.uint8)}
  return {
      **pictures,
      'vector': rng.normal(size=(*lead, 3)).astype(np.float32),
      'token': rng.integers(0, 4, lead).astype(np.int32),
      'prev_action/move': rng.normal(size=(*lead, 2)).astype(np.float32),
      'prev_action/press': rng.integers(0, 3, lead).astype(np.int32),
      'reward': rng.normal(size=lead).astype(np.float32),
      'is_first': flag(0.2), 'is_terminal': is_terminal,
      'is_last': is_terminal | flag(0.1),
      'latent/deter': rng.normal(size=(size, 16)).astype(np.float32),
      'latent/stoch': rng.integers(0, 4, (size, 4)).astype(np.uint8)}
