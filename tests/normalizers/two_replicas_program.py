"""Runs optimizers, normalizers and a slow copy on two logical devices.

Prints JSON. A program of its own: logical devices exist only if they are made
before TensorFlow starts.
"""

import json
import sys

import numpy as np
import tensorflow as tf

from dv3 import registry
from dv3.normalizers import slow

STEPS = 5
ROWS = 8


class Part(tf.Module):
  """A part with two weights."""

  def __init__(self):
    super().__init__()
    rng = np.random.default_rng(0)
    self.kernel = tf.Variable(
        rng.normal(size=(3, 2)).astype(np.float32), name='kernel')
    self.bias = tf.Variable(np.zeros(2, np.float32), name='bias')


def run(strategy, aggregated):
  """Returns ({name: values}, whether all copies were equal at every step)."""
  replicas = strategy.num_replicas_in_sync
  with strategy.scope():
    parts = {name: Part() for name in ('laprop', 'adam')}
    optimizers = {
        name: registry.get('optimizer', name)(
            learning_rate=1e-2, warmup_updates=2, weight_decay=0.1)
        for name in parts}
    copy = slow.SlowCopy(parts['laprop'], Part(), rate=0.3, every=2)
    copy.build()
    normalizers = {
        'percentile': registry.get('normalizer', 'percentile')(
            rate=0.2, limit=0.01, debias=True),
        'meanstd': registry.get('normalizer', 'meanstd')(rate=0.2)}
    for normalizer in normalizers.values():
      normalizer.build()
    for name, optimizer in optimizers.items():
      optimizer.build(parts[name].trainable_variables)

  def replica(x):
    results = {}
    for name, optimizer in optimizers.items():
      part = parts[name]
      trained = list(part.trainable_variables)
      with tf.GradientTape() as tape:
        y = tf.tanh(x @ part.kernel + part.bias)
        loss = tf.reduce_mean(tf.square(y - 0.5)) / replicas
      gradients = tape.gradient(loss, trained)
      if aggregated and replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, gradients)
      optimizer.apply_gradients(
          list(zip(gradients, trained, strict=True)),
          skip_gradients_aggregation=aggregated)
    copy.update()
    for name, normalizer in normalizers.items():
      results[name] = tf.stack(normalizer.update(x * 3.0))
    return results

  step = tf.function(lambda x: strategy.run(replica, (x,)), autograph=False)
  rng = np.random.default_rng(1)
  found, equal = {}, True
  watched = {
      'copy': copy, **parts, **normalizers,
      **{f'optimizer_{k}': v for k, v in optimizers.items()}}
  for i in range(STEPS):
    batch = rng.normal(size=(ROWS, 3)).astype(np.float32)
    size = ROWS // replicas
    results = step(strategy.experimental_distribute_values_from_function(
        lambda c, b=batch, n=size: tf.constant(
            b[c.replica_id_in_sync_group * n:][:n])))
    values = {f'result_{k}': v for k, v in results.items()}
    for name, owner in watched.items():
      for j, variable in enumerate(owner.variables):
        values[f'{name}/{j}/{variable.name}'] = variable
    for name, value in values.items():
      copies = [
          x.numpy() for x in strategy.experimental_local_results(value)]
      equal &= all(np.array_equal(x, copies[0]) for x in copies)
      found[f'{i}/{name}'] = copies[0].tolist()
  return found, equal


def made_outside(strategy):
  """Returns what is said about an optimizer made outside of the scope."""
  optimizer = registry.get('optimizer', 'laprop')()
  with strategy.scope():
    variable = tf.Variable([1.0])
    try:
      optimizer.build([variable])
    except Exception as error:
      return f'{type(error).__name__}: {error}'


def main():
  cpu, = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
  mirrored = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
  one, _ = run(tf.distribute.get_strategy(), True)
  report = {'outside': made_outside(mirrored), 'compared': len(one)}
  for aggregated in (True, False):
    two, equal = run(mirrored, aggregated)
    assert list(one) == list(two), (list(one), list(two))
    report[f'equal_{aggregated}'] = bool(equal)
    report[f'error_{aggregated}'] = {
        name: float(np.max(np.abs(
            np.subtract(one[name], two[name]))
            / (np.max(np.abs(one[name])) + 1e-6))) for name in one}
  json.dump(report, sys.stdout)


if __name__ == '__main__':
  main()
