"""Rules for several replicas."""

import json
import subprocess
import sys

import numpy as np
import pytest
import small_agent
import tensorflow as tf

from dv3 import registry
from dv3 import types
from dv3.optimizers import schedules
from dv3.training import checkpoints
from dv3.training import distribution
from dv3.training import step


def test_rllibs_recipe():
  rule = registry.get('scaling', 'sqrt')()
  assert rule(1) == types.Scale()
  assert rule(4) == types.Scale(4, 4, 2.0, 0.4, 0.1)


def test_priming():
  # RLlib's example for 4 GPUs: 0.4 until 8,000, then up to 10,000.
  schedule = schedules.Scaled(1e-4, 2.0, 0.4, 10_000)
  rates = [schedule(x).numpy() for x in (0, 8_000, 9_000, 10_000, 20_000)]
  np.testing.assert_allclose(
      rates, [0.4e-4, 0.4e-4, 1.2e-4, 2e-4, 2e-4], rtol=1e-5)
  again = schedules.Scaled.from_config(schedule.get_config())
  assert again(9_000).numpy() == schedule(9_000).numpy()


def test_the_optimizers_of_an_update_are_scaled():
  def rates(rate):
    agent = small_agent.make()
    agent.build()
    update = step.Update(
        agent, tf.distribute.get_strategy(), ((
            'all', ('*',), small_agent.part(
                'optimizer', 'laprop', learning_rate=1e-3,
                warmup_updates=2)),), seed=0, rate=rate)
    return [
        float(update.groups[0].optimizer._learning_rate(i)) for i in range(7)]
  plain, scaled = rates(None), rates((3.0, 0.5, 5))
  np.testing.assert_allclose(plain, [0, 5e-4, *[1e-3] * 5])
  np.testing.assert_allclose(
      scaled, [0, 2.5e-4, *[5e-4] * 3, 3e-3, 3e-3], rtol=1e-5)


@pytest.mark.slow
def test_the_shipped_file_scales_batch_and_environments():
  # 2 replicas: 256 replayed steps an env step in batches of 2 x 16 x 32.
  summaries = []
  for file in ('single', 'scaled'):
    done = subprocess.run(
        [sys.executable, '-m', 'dv3.bin.train', '--dry_run',
         '--gin_file=preset/quickstart.gin', f'--gin_file=dist/{file}.gin',
         '--gin_param=train.replicas = 2' if file == 'scaled' else '--seed=0'],
        capture_output=True, text=True, check=True)
    summaries.append(json.loads(done.stdout.splitlines()[-1]))
  single, scaled = summaries
  assert scaled['device'] == '2 x CPU'
  assert single['updates_per_env_step'] == 256 / (16 * 32)
  assert scaled['updates_per_env_step'] == 256 / (2 * 16 * 32)
  # Two environments in place of one have a chunk of replay each.
  assert scaled['replay_bytes'] > single['replay_bytes']


def test_one_replica_trains_as_one_device():
  # Under a strategy of one replica TensorFlow refuses assignments.
  strategy = distribution.make_strategy('mirrored', 1)
  with strategy.scope():
    agent = small_agent.make()
    agent.build()
    update = step.make_update(
        agent, strategy, (('all', ('*',), small_agent.part(
            'optimizer', 'laprop')),), seed=0, jit_compile=False)
  _, metrics, _, _ = update(small_agent.batch())
  assert metrics['finite'] == 1.0


def test_a_scaled_rate_without_warm_up_is_restored(tmp_path):
  def make():
    variable = tf.Variable([1.0, 2.0], name='kernel')
    optimizer = registry.get('optimizer', 'laprop')(
        learning_rate=1e-2, warmup_updates=0)
    optimizer.scale_rate(2.0, 0.4, 10)
    optimizer.build([variable])
    return variable, optimizer
  def take(variable, optimizer):
    optimizer.apply_gradients([(tf.constant([0.5, -1.0]), variable)])
  variable, optimizer = make()
  take(variable, optimizer)
  folder = tmp_path / 'lr[1]'
  folder.mkdir()
  checkpoints.write_variables(
      folder, variable=variable, optimizer=optimizer)
  copy, other = make()
  checkpoints.read_variables(folder, variable=copy, optimizer=other)
  for _ in range(2):
    take(variable, optimizer)
    take(copy, other)
  np.testing.assert_array_equal(variable, copy)
