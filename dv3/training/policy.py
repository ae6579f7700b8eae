"""The agent's policy as collectors call it: NumPy in, NumPy out."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3.collectors import nests
from dv3.collectors import random_policy
from dv3.nets import fusion
from dv3.nets import xla

WHOLE = 300_000
"""Encoder parameters times images up to which XLA compiles 'mixed' steps whole.

XLA's convolutions are slower on a CPU than oneDNN's, but need no calls between
them. Measured: faster up to 16 images with 20,000 parameters (size/1m.gin) and
for one image with 250,000 (size/12m.gin), slower beyond.
"""


class Policy:
  """Wraps `Agent.policy` into a compiled function of one step.

    policy = Policy(agent, seed=0)
    state = policy.initial(num_envs)
    actions, entries, state = policy(obs, is_first, state, call_index)

  The state's arrays are read-only.

  Random numbers depend on the seed and the call's index only, so that a
  resumed run continues as if it had not stopped.

  Args:
    agent: the built agent.
    seed: of the sampled actions and latents.
    mode: whether to take the likeliest action in place of a sample.
    random_steps: steps, over all environments, with uniformly random actions
      at first.
    exploration: what changes the actions after them; None leaves them.
    env_steps: returns the steps so far, over all environments, for these two;
      None counts the calls, with as many environments in each.
    jit_compile: whether XLA compiles the step, for each number of environments:
      all of it, nothing, or, as 'mixed', all but the encoder's convolutions
      where these are many (`WHOLE`).
  """

  def __init__(
      self, agent, *, seed: int, mode: bool = False, random_steps: int = 0,
      exploration: Callable | None = None, jit_compile: bool | str = False,
      env_steps: Callable[[], int] | None = None):
    self._agent = agent
    self._seed = seed
    self._mode = mode
    self._random_steps = random_steps
    self._jit_compile = jit_compile
    self._random = random_policy.RandomPolicy(agent.codec.specs, seed)
    self._exploration = exploration
    self._env_steps = env_steps
    self._steps: dict[tuple, tuple] = {}
    self._last: tuple = (None, [])

  def initial(self, num_envs: int):
    """Returns the state before the first step, NumPy leaves [n, ...]."""
    return tf.nest.map_structure(
        lambda x: x.numpy(), self._agent.initial(num_envs))

  def __call__(self, obs, is_first, state, call_index):
    """Chooses actions; see `dv3.collectors` for the contract."""
    known, tensors = self._last
    if state is not known:
      tensors = [tf.convert_to_tensor(x) for x in nests.leaves(state)]
    try:
      values = [tf.convert_to_tensor(obs[k]) for k, _ in self._agent.obs_spec]
    except KeyError as error:
      raise errors.UserError(
          f'the observation lacks {error}; it has {sorted(obs)}') from error
    values += [
        tf.convert_to_tensor(np.asarray(is_first, bool)),
        tf.constant(call_index, tf.int64), *tensors]
    # A concrete function of flat tensors: to match a nest of arrays with the
    # signature takes tf.function as long as the step itself.
    key = len(is_first), *[
        x.dtype for x in values[:len(self._agent.obs_spec)]]
    if key not in self._steps:
      self._steps[key] = self._concrete(values, state)
    step, structure = self._steps[key]
    results = step(*values)
    arrays = [x.numpy() for x in results]
    for array in arrays:
      array.flags.writeable = False
    actions, entries, state = nests.pack(structure, arrays)
    # The next call most often brings back the very state that this one returns,
    # whose tensors, the last results, need no conversion then.
    self._last = state, results[-len(tensors):]
    env_steps = (
        self._env_steps() if self._env_steps else call_index * len(is_first))
    if env_steps < self._random_steps:
      actions, _, _ = self._random(obs, is_first, (), call_index)
    elif self._exploration is not None:
      actions = self._explored(actions, env_steps)
    else:
      return actions, entries, state
    encoded = self._agent.codec.encode({
        key: tf.convert_to_tensor(value) for key, value in actions.items()})
    return actions, entries, state._replace(action=encoded.numpy())

  def _explored(self, actions, env_steps):
    """Returns what the exploration makes of actions, once it is checked.

    Raises:
      UserError: for what the environment would be blamed for.
    """
    found = self._exploration(actions, env_steps)
    if isinstance(found, dict) and found.keys() == actions.keys() and all(
        _alike(found[k], actions[k], spec)
        for k, spec in self._agent.codec.specs.items()):
      return found
    raise errors.UserError(
        f'{type(self._exploration).__name__} made {_described(found)} of the '
        f'actions {_described(actions)}; an exploration returns the same '
        'keys, shapes and dtypes, finite numbers and classes that there are '
        '(dv3.interfaces.Exploration)')

  @property
  def trace_count(self) -> int:
    """How often the step was traced.

    Once for each number of environments and dtypes of observations.
    """
    return len(self._steps)

  def _encoding(self, num_envs):
    """Returns the encoder's parameters times the images that they meet."""
    return num_envs * sum(
        v.shape.num_elements() for v in self._agent.variables_of('encoder'))

  def _concrete(self, values, state):
    """Traces the step for flat arguments; returns it and its results' nest."""
    keys = [k for k, _ in self._agent.obs_spec]
    compiled = self._jit_compile
    if compiled == 'mixed' and self._encoding(len(values[0])) <= WHOLE:
      compiled = True
    nest = []

    def run(*values):
      is_first, call_index, *leaves = values[len(keys):]
      obs = dict(zip(keys, values[:len(keys)], strict=True))
      if compiled == 'mixed':
        with fusion.fusing():
          tokens = self._agent.encode(obs)
        results = xla.compiled(act)(tokens, is_first, call_index, leaves)
      else:
        results = act(self._agent.encode(obs), is_first, call_index, leaves)
      nest.append(tf.nest.map_structure(lambda x: None, results))
      return tf.nest.flatten(results)

    def act(tokens, is_first, call_index, leaves):
      rng = distributions.Rng(self._seed).fold('policy').fold(call_index)
      return self._agent.act(
          tokens, is_first, tf.nest.pack_sequence_as(state, leaves), rng,
          mode=self._mode)

    function = (
        xla.compiled(run) if compiled is True
        else tf.function(run, autograph=False))
    return function.get_concrete_function(
        *[tf.TensorSpec(x.shape, x.dtype) for x in values]), nest[0]


def _alike(found, expected, spec) -> bool:
  """Whether one entry is an array like `expected` and within its spec."""
  if not isinstance(found, np.ndarray) or (
      found.shape != expected.shape or found.dtype != expected.dtype):
    return False
  if spec.classes is None:
    # Beyond [-1, 1], where samples may lie too, the environment's edge holds.
    return bool(np.isfinite(found).all())
  below = found < np.reshape(spec.classes, spec.shape)
  return bool((below & (found >= 0)).all())


def _described(nest) -> str:
  """Returns shapes, dtypes and ranges in a few words."""
  if not isinstance(nest, dict):
    return type(nest).__name__
  arrays = {key: np.asarray(value) for key, value in nest.items()}
  return ', '.join(
      f'{key} {x.dtype}{list(x.shape)} in [{x.min():g}, {x.max():g}]'
      if x.size and x.dtype.kind in 'biuf' else f'{key} {x.dtype}'
      for key, x in arrays.items()) or 'nothing'
