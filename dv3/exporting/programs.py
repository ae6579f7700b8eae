"""What `dv3-export` writes: the update and the policy."""

import re
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3.benchmarking import flops
from dv3.exporting import stablehlo
from dv3.training import naming


def gradients(update, batch, *, run: bool = True) -> stablehlo.Program:
  """Exports the loss and its gradients on one replica.

  Results are the total, the outputs of `Agent.loss`, and a gradient of every
  trained variable.

  Args:
    update: a `training.step.Update`.
    batch: {name: [B, ...]}.
    run: see `stablehlo.export`.
  """
  paths = naming.update_paths(update)
  def function(batch, update_number, replica):
    total, outputs, found = update.loss_and_gradients(
        batch, update_number, replica)
    return {
        'total': total, 'outputs': outputs, 'gradients': {
            f'{i:04d}:{paths[variable.ref()]}': gradient
            for i, (variable, gradient) in enumerate(zip(
                update.trained, found, strict=True))}}
  return stablehlo.export(
      function, batch, np.int64(update.count), np.int32(0),
      names=('batch', 'update', 'replica'), run=run,
      paths=paths)._replace(
          gflop=_gflop(update, batch))


def whole_update(update, batch, *, run: bool = True) -> stablehlo.Program:
  """Exports the update with its optimizer, on one replica.

  Results are (losses, metrics), (new latents, losses of each step), then the
  new values of all variables, which `new_value` in the document feeds back.

  Args:
    update: a `training.step.Update`.
    batch: {name: [B, ...]}.
    run: see `stablehlo.export`.
  """
  return stablehlo.export(
      update.replica_step, batch, names=('batch',), run=run,
      paths=naming.update_paths(update))._replace(
          gflop=_gflop(update, batch))


def _gflop(update, batch) -> float:
  """Returns the model FLOPs of an update, in 10^9."""
  counts = flops.model_flops(update.agent, *batch['reward'].shape)
  return sum(counts.values()) / 1e9


def policy(
    agent, *, seed: int, num_envs: int, mode: bool = False,
    run: bool = True) -> stablehlo.Program:
  """Exports one step of the policy.

  Args:
    agent: the built agent.
    seed: of the sampled actions and latents.
    num_envs: B, environments that act at once.
    mode: whether to take the likeliest action in place of a sample.
    run: see `stablehlo.export`.
  """
  obs = {
      name: np.zeros((num_envs, *spec.shape), spec.dtype)
      for name, spec in agent.obs_spec}
  def function(obs, is_first, state, call_index):
    actions, entries, state = policy_step(agent, seed, mode)(
        obs, is_first, state, call_index)
    return {'actions': actions, 'entries': entries, 'state': state}
  return stablehlo.export(
      function, obs, np.ones(num_envs, bool), agent.initial(num_envs),
      np.int64(0), names=('obs', 'is_first', 'state', 'call_index'), run=run,
      paths=naming.agent_paths(agent))


def policy_step(agent, seed: int, mode: bool):
  """Returns the function (obs, is_first, state, call_index) of one step.

  Its numbers are those of `training.policy.Policy`.
  """
  def step(obs, is_first, state, call_index):
    rng = distributions.Rng(seed).fold('policy').fold(call_index)
    return agent.policy(obs, is_first, state, rng, mode=mode)
  return step


class ServedPolicy(tf.Module):
  """A policy for serving, without dv3: states in, actions and states out.

    served = tf.saved_model.load(folder)
    state = served.initial(num_envs)
    result = served.step(obs, is_first, state, call_index)
    result['actions'], result['state']

  The signatures 'serving_default' and 'initial' are the same with flat
  names: 'obs_<key>', 'is_first', 'state_<number>', 'call_index'; what comes out
  is 'action_<name>' and 'state_<number>'. In <key> and <name> all but ASCII
  letters and digits is '_'; the second of two that are then equal ends in '_2'.

  Args:
    agent: the built agent.
    seed: of the sampled actions and latents.
    mode: whether to take the likeliest action in place of a sample.
  """

  def __init__(self, agent, *, seed: int, mode: bool = False):
    super().__init__(name='policy')
    # The variables alone: saving Keras layers would trace each of them.
    self.weights = [
        v for name in ('encoder', 'core', 'actor')
        for v in agent.parts[name].variables]
    step = policy_step(agent, seed, mode)
    state = agent.initial(1)
    structure = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), state)
    obs = {
        name: tf.TensorSpec([None, *spec.shape], spec.dtype)
        for name, spec in agent.obs_spec}
    flags = tf.TensorSpec([None], tf.bool)
    index = tf.TensorSpec([], tf.int64)

    @tf.function(
        input_signature=[obs, flags, structure, index], autograph=False)
    def run(obs, is_first, state, call_index):
      actions, _, state = step(obs, is_first, state, call_index)
      return {'actions': actions, 'state': state}

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    def initial(num_envs):
      return agent.initial(num_envs)

    self.step = run
    self.initial = initial
    flat_state = tf.nest.flatten(structure)
    names = _flat_names('obs', obs)
    action_names = {
        key: name for name, key in _flat_names(
            'action', agent.codec.specs).items()}

    @tf.function(autograph=False)
    def serve(**flat):
      result = run(
          {key: flat[name] for name, key in names.items()}, flat['is_first'],
          tf.nest.pack_sequence_as(structure, [
              flat[f'state_{i}'] for i in range(len(flat_state))]),
          flat['call_index'])
      return {
          **{action_names[key]: x for key, x in result['actions'].items()},
          **_numbered(result['state'])}

    @tf.function(autograph=False)
    def serve_initial(num_envs):
      return _numbered(initial(num_envs))

    named = lambda name, spec: tf.TensorSpec(spec.shape, spec.dtype, name)
    # Not a dictionary that Module would track, and save a second time.
    self._signatures = lambda: {
        'serving_default': serve.get_concrete_function(
            **{name: named(name, obs[key]) for name, key in names.items()},
            is_first=named('is_first', flags),
            call_index=named('call_index', index),
            **{f'state_{i}': named(f'state_{i}', spec)
               for i, spec in enumerate(flat_state)}),
        'initial': serve_initial.get_concrete_function(
            tf.TensorSpec([], tf.int32, 'num_envs'))}

  def save(self, folder: str) -> None:
    """Writes the SavedModel."""
    tf.saved_model.save(self, folder, signatures=self._signatures())


def _flat_names(prefix: str, keys: Iterable[str]) -> dict[str, str]:
  """Returns {a name that may be an argument's: key}."""
  names: dict[str, str] = {}
  for key in keys:
    name = f'{prefix}_{re.sub("[^0-9A-Za-z]", "_", key)}'
    number = 2
    while name in names:
      name = f'{name.removesuffix(f"_{number - 1}")}_{number}'
      number += 1
    names[name] = key
  return names


def _numbered(state) -> dict[str, tf.Tensor]:
  return {
      f'state_{i}': tf.identity(x)
      for i, x in enumerate(tf.nest.flatten(state))}
