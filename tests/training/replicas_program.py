"""Trains one agent on one replica and on several; prints what differs as JSON.

    replicas_program.py COUNT [DTYPE [MODE]]

MODE is graph, xla or mixed.

A program of its own: logical devices exist only if they are made before
TensorFlow starts.
"""

import json
import sys

import numpy as np
import small_agent
import tensorflow as tf

from dv3 import registry
from dv3.training import distribution
from dv3.training import step

UPDATES = 20
LOSSES = (
    'kl', 'reconstruction', 'reward', 'continue', 'actor_reinforce',
    'critic_imagined', 'critic_replay')
MODES = {'graph': False, 'xla': True, 'mixed': 'mixed'}


def train(strategy, dtype, mode):
  """Trains, the last time on a batch that one replica cannot train on.

  Returns:
    ({name: value after the updates}, [losses], whether all copies are equal,
    what the last update said and whether it changed nothing).
  """
  # One more, whose statistics span the replicas throughout.
  images = mode == 'mixed'
  losses = LOSSES + (() if MODES[mode] else ('redundancy',))
  with strategy.scope():
    agent = small_agent.make(dtype, images, losses=tuple(
        registry.get('loss', name) for name in losses))
    agent.build()
    rng = np.random.default_rng(0)
    for variable in agent.variables:
      if variable.dtype == tf.float32 and 'slow' not in variable.name:
        variable.assign(rng.normal(size=variable.shape) * 0.3)
    agent.slow_copy.build()
    optimizer = small_agent.part(
        'optimizer', 'laprop', learning_rate=1e-2, warmup_updates=0)
    update = step.Update(
        agent, strategy, (('agent', ('*',), optimizer),), seed=7,
        jit_compile=MODES[mode])
    assert update.compiled == MODES[mode]
  history = []
  for i in range(UPDATES):
    losses, metrics, entries, per_step = update(
        small_agent.batch(seed=i, images=images))
    assert metrics['finite'] == 1.0
    history.append({
        **losses, 'norm': metrics['gradient_norm'],
        'scale': metrics['return_scale'], 'per_step': float(per_step.sum()),
        'entry': float(entries['latent/deter'].sum())})
  values, equal = {}, True
  # The optimizer's moments too: averages of the gradients after clipping.
  for i, variable in enumerate(update._state()):
    copies = [
        x.numpy() for x in strategy.experimental_local_results(variable)]
    equal &= all(np.array_equal(x, copies[0]) for x in copies)
    values[f'{i}:{variable.name}'] = copies[0]
  batch = small_agent.batch(images=images)
  batch['reward'][0, 2] = np.nan  # Of the first replica.
  _, metrics, _, _ = update(batch)
  unchanged = all(
      np.array_equal(copy.numpy(), value) for variable, value in zip(
          update._state(), values.values(), strict=True)
      for copy in strategy.experimental_local_results(variable))
  bad = [metrics['finite'], metrics['bad_gradient'], unchanged]
  return values, history, equal, bad


def compare(one, other):
  """Returns what differs between two results of `train`, largest first."""
  (values, history, _, bad), (others, histories, equal, bads) = one, other
  apart = {
      k: float(np.max(np.abs(values[k] - others[k]) / (
          np.abs(values[k]).max() + 1e-6))) for k in values if values[k].size}
  return {
      'replicas_equal': equal,
      'variables': max(x for k, x in apart.items() if 'moment' not in k),
      'moments': max(x for k, x in apart.items() if 'moment' in k),
      'losses': max(
          abs(a[k] - b[k]) / (abs(a[k]) + 1e-3)
          for a, b in zip(history, histories, strict=True) for k in a),
      # Before rounding has had time to grow.
      'first_losses': max(
          abs(one[1][0][k] - other[1][0][k]) / (abs(one[1][0][k]) + 1e-3)
          for k in one[1][0]),
      'compared': len(values), 'names_equal': list(values) == list(others),
      'bad': [bad, bads]}


def main():
  count, dtype, mode = (*sys.argv[1:], *('float32', 'graph')[
      len(sys.argv) - 2:])
  count = int(count)
  distribution.split_cpu(count)
  registry.get('optimizer', 'laprop')
  json.dump(compare(
      train(tf.distribute.get_strategy(), dtype, mode),
      train(distribution.make_strategy('mirrored', count), dtype, mode)),
      sys.stdout)


if __name__ == '__main__':
  main()
