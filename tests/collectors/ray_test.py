"""The collector in Ray actors; its faults are in tests/faults."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from dv3 import errors
from dv3 import types
from dv3.collectors import local
from dv3.collectors import random_policy
from dv3.collectors import ray as ray_collector


def recipe(**kwargs):
  return types.Recipe('env', 'gymnasium', {'id': 'CartPole-v1', **kwargs})


def collect(collector, env_steps):
  """Returns all steps that are handed on, the episodes, and the state."""
  steps = []
  try:
    policy = random_policy.RandomPolicy(collector.action_spec, seed=0)
    episodes = collector.run(policy, lambda x, _: steps.append(
        {k: np.array(v) for k, v in x.items()}), env_steps)
    return steps, episodes, collector.state()
  finally:
    collector.close()


def assert_same(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], key)


def test_steps_are_those_of_the_local_collector():
  made = [
      make(env=recipe(), num_envs=3, seed=4) for make in (
          local.LocalCollector, ray_collector.RayCollector)]
  assert made[0].obs_spec == made[1].obs_spec
  assert made[0].action_spec == made[1].action_spec
  (first, episodes, _), (second, others, _) = [collect(x, 120) for x in made]
  assert_same(first, second)
  assert len(episodes) >= 2 and episodes == others


def test_a_state_moves_between_machines_and_collectors():
  straight, _, _ = collect(
      local.LocalCollector(env=recipe(), num_envs=2, seed=4), 50)
  first, _, state = collect(
      local.LocalCollector(env=recipe(), num_envs=2, seed=4), 30)
  collector = ray_collector.RayCollector(env=recipe(), num_envs=2, seed=4)
  collector.load(state)
  second, _, _ = collect(collector, 20)
  assert_same(straight, first + second)


def test_more_cpus_than_there_are_is_one_clear_error():
  with pytest.raises(errors.UserError, match='lower collector.ray.cpus'):
    ray_collector.RayCollector(env=recipe(), num_envs=2, cpus_per_env=1e4)


def test_an_environment_that_cannot_be_built_is_one_clear_error():
  with pytest.raises(errors.UserError, match='rubbish'):
    ray_collector.RayCollector(env=recipe(rubbish=1))


PROGRAM = """
import os, signal, sys, time
from dv3 import registry, types
from dv3.collectors import random_policy

def main():
  owner = lambda *_: sys.exit(7)
  signal.signal(signal.SIGTERM, owner)
  collector = registry.get('collector', 'ray')(
      env=types.Recipe('env', 'memory', {}), %s)
  assert signal.getsignal(signal.SIGTERM) is owner
  policy = random_policy.RandomPolicy(collector.action_spec, seed=0)
  collector.run(policy, None, 8)
  assert not any(x.startswith('tensorflow.') for x in sys.modules)
  collector.close()
  os.kill(os.getpid(), signal.SIGTERM)

if __name__ == '__main__':
  main()
"""


def environments(mark):
  """Returns the actors that inherited an environment variable."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
    with contextlib.suppress(OSError):
      name = (path.parent / 'cmdline').read_bytes()
      if b'Environment' in name and mark.encode() in path.read_bytes():
        found.append(path.parent)
  return found


def run(tmp_path, arguments='', program=PROGRAM):
  """Returns the exit code and standard error of a program of its own."""
  path = tmp_path / 'program.py'
  path.write_text(program.replace('%s', arguments))
  # A file: what Ray starts keeps a pipe open a little longer than it lives.
  with (tmp_path / 'errors').open('w+') as file:
    code = subprocess.run(
        [sys.executable, str(path)], stderr=file, timeout=300,
        check=False).returncode
    file.seek(0)
    return code, file.read()


def test_sigterm_stays_with_its_owner_and_tensorflow_away(tmp_path):
  code, words = run(tmp_path)
  assert code == 7, words


def test_without_ray_the_extra_is_named(tmp_path):
  (tmp_path / 'ray.py').write_text("raise ImportError('no such package')")
  assert 'pip install "dv3[ray]"' in run(tmp_path)[1]


def test_a_cluster_that_is_not_there_is_one_clear_error(tmp_path):
  code, words = run(tmp_path, "address='127.0.0.1:1'")
  assert code == 1
  assert 'UserError' in words and 'ray start --head' in words


def test_actors_end_with_the_learner(tmp_path):
  path, mark = tmp_path / 'program.py', f'DV3_MARK={tmp_path}'
  path.write_text(PROGRAM.replace('%s', '').replace(
      'collector.close()', 'print(os.getpid(), flush=True); time.sleep(600)'))
  learner = subprocess.Popen(
      [sys.executable, str(path)], stdout=subprocess.PIPE, text=True,
      stderr=subprocess.DEVNULL, env={**os.environ, 'DV3_MARK': str(tmp_path)})
  assert learner.stdout.readline().strip() == str(learner.pid)
  assert len(environments(mark)) == 1
  learner.kill()
  learner.communicate()
  deadline = time.monotonic() + 60
  while environments(mark) and time.monotonic() < deadline:
    time.sleep(0.1)
  assert not environments(mark)


MACHINES = """
import ray
from ray import cluster_utils
from dv3 import registry, types
from dv3.collectors import random_policy

def main():
  cluster = cluster_utils.Cluster(True, head_node_args={'num_cpus': 2})
  other = cluster.add_node(num_cpus=2)
  cluster.wait_for_nodes()
  collector = registry.get('collector', 'ray')(
      env=types.Recipe('env', 'gymnasium', {'id': 'CartPole-v1'}), num_envs=4,
      address=cluster.address, cpus_per_env=0.5)
  policy = random_policy.RandomPolicy(collector.action_spec, seed=0)
  collector.run(policy, None, 40)
  cluster.remove_node(other, allow_graceful=False)
  episodes = collector.run(policy, None, 400)
  restarted = [x for x in episodes if 'restarts_sum' in x.extras]
  # Those of the other machine noticed nothing.
  assert 0 < len(restarted) < 4, episodes
  assert len({x.worker for x in restarted}) == len(restarted)
  assert all(x.truncated for x in restarted)
  assert {x.worker for x in episodes} == set(range(4))
  collector.close()
  ray.shutdown()
  cluster.shutdown()

if __name__ == '__main__':
  main()
"""


@pytest.mark.slow
def test_a_machine_that_is_lost_costs_its_episodes(tmp_path):
  code, words = run(tmp_path, program=MACHINES)
  assert code == 0, words
