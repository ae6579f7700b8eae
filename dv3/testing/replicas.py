"""Whether the copies of a component's variables stay equal on two replicas.

  python -m dv3.testing.replicas       # reads cases as JSON, writes a report

It is a program of its own, since TensorFlow splits the CPU into two devices
only before it has started.
"""

import json
import os
import subprocess
import sys

import numpy as np
import tensorflow as tf

from dv3 import plugins
from dv3 import registry
from dv3.testing import subjects

KINDS = ('encoder', 'decoder', 'head', 'core', 'normalizer')
"""Kinds with variables that a strategy copies."""


def report(cases, timeout_seconds: int = 600) -> dict[str, str]:
  """Runs cases in one new process.

  Args:
    cases: list of (kind, name, kwargs); kwargs are JSON values.
    timeout_seconds: when to give up.

  Returns:
    {'kind.name': what is wrong, '' if nothing}.

  Raises:
    AssertionError: if the process fails as a whole.
  """
  asked = {'plugins': plugins.loaded(), 'cases': cases}
  path = os.pathsep.join(filter(None, sys.path))
  result = subprocess.run(
      [sys.executable, '-m', 'dv3.testing.replicas'], input=json.dumps(asked),
      env={**os.environ, 'PYTHONPATH': path, 'TF_CPP_MIN_LOG_LEVEL': '3',
           'CUDA_VISIBLE_DEVICES': '-1'},
      capture_output=True, text=True, check=False, timeout=timeout_seconds)
  assert result.returncode == 0, result.stderr[-3000:]
  return json.loads(result.stdout.splitlines()[-1])


def problem(strategy, kind: str, name: str, kwargs) -> str:
  """Takes two updates with other data on each replica; says what is wrong."""
  with strategy.scope():
    part, run, _ = subjects.first(kind, name, kwargs)

  def step():
    context = tf.distribute.get_replica_context()
    seed = int(tf.get_static_value(context.replica_id_in_sync_group))
    variables = () if kind == 'normalizer' else part.trainable_variables
    with tf.GradientTape() as tape:
      total = sum(
          tf.reduce_sum(tf.square(tf.cast(x, tf.float32))) for x in run(seed))
    if not variables:
      return
    gradients = tape.gradient(
        total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
    for variable, gradient in zip(variables, gradients, strict=True):
      variable.assign_sub(1e-3 * gradient)

  update = tf.function(lambda: strategy.run(step), autograph=False)
  for _ in range(2):
    update()
  for variable in part.variables:
    copies = [x.numpy() for x in strategy.experimental_local_results(variable)]
    if len(copies) != 2:
      return f'{variable.name} was not made under the strategy'
    if not np.array_equal(*copies):
      return f'the copies of {variable.name} differ'
  return ''


def main():
  """Reads cases, writes the report as the last line of stdout."""
  asked = json.loads(sys.stdin.read())
  tf.config.set_logical_device_configuration(
      tf.config.list_physical_devices('CPU')[0],
      [tf.config.LogicalDeviceConfiguration()] * 2)
  registry.load_plugins(asked['plugins'])
  # One for all cases: each would number its collective operations from 0.
  strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
  result = {}
  for kind, name, kwargs in asked['cases']:
    try:
      result[f'{kind}.{name}'] = problem(strategy, kind, name, kwargs)
    except Exception as error:  # noqa: BLE001 - goes into the report
      result[f'{kind}.{name}'] = f'{type(error).__name__}: {error}'
  print(json.dumps(result))


if __name__ == '__main__':
  main()
