"""Trains one agent on one and on two replicas; prints what differs as JSON.

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

UPDATES = 4


def train(strategy, dtype):
  """Returns ({name: value after the updates}, [losses], all equal)."""
  with strategy.scope():
    agent = small_agent.make(dtype)
    agent.build()
    rng = np.random.default_rng(0)
    for variable in agent.variables:
      if variable.dtype == tf.float32 and 'slow' not in variable.name:
        variable.assign(rng.normal(size=variable.shape) * 0.3)
    agent.slow_copy.build()
    optimizer = small_agent.part(
        'optimizer', 'laprop', learning_rate=1e-2, warmup_updates=0)
    update = step.Update(
        agent, strategy, (('agent', ('*',), optimizer),), seed=7)
  history = []
  for i in range(UPDATES):
    losses, metrics, entries, per_step = update(small_agent.batch(seed=i))
    assert metrics['finite'] == 1.0
    history.append({
        **losses, 'norm': metrics['gradient_norm'],
        'scale': metrics['return_scale'], 'per_step': float(per_step.sum()),
        'entry': float(entries['latent/deter'].sum())})
  values, equal = {}, True
  for i, variable in enumerate(agent.variables):
    copies = [
        x.numpy() for x in strategy.experimental_local_results(variable)]
    equal &= all(np.array_equal(x, copies[0]) for x in copies)
    values[f'{i}:{variable.name}'] = copies[0]
  return values, history, equal


def main():
  distribution.split_cpu(2)
  registry.get('optimizer', 'laprop')
  one, first, _ = train(tf.distribute.get_strategy(), 'float32')
  two, second, equal = train(
      distribution.make_strategy('mirrored', 2), 'float32')
  largest = max(
      float(np.max(np.abs(one[k] - two[k]) / (np.abs(one[k]).max() + 1e-6)))
      for k in one if one[k].size)
  losses = max(
      abs(a[k] - b[k]) / (abs(a[k]) + 1e-3)
      for a, b in zip(first, second, strict=True) for k in a)
  json.dump({
      'replicas_equal': equal, 'variables': largest, 'losses': losses,
      'compared': len(one), 'names_equal': list(one) == list(two)}, sys.stdout)


if __name__ == '__main__':
  main()
