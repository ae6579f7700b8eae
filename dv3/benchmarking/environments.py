"""The rate of the environments alone."""

import time
from typing import Any

import numpy as np

from dv3.benchmarking import workload as workload_lib
from dv3.collectors import random_policy


def measure(
    config, *, repeats: int, seconds: float, num_envs: tuple[int, ...] = (1,)
) -> dict[str, Any]:
  """Steps the configured environment with the configured collector, at random.

  Args:
    config: the `config.Config` that gin holds.
    repeats: measurements; the median counts.
    seconds: of one measurement.
    num_envs: numbers of environments besides the configured one.

  Returns:
    What `dv3-bench environments --json` prints.

  Raises:
    UserError: for what no run takes, or if the environment cannot be built.
  """
  settings = workload_lib.settings()
  recipe, seed = settings['env'](), settings['seed']
  name, own = workload_lib.collector(config)
  rates = {}
  for count in sorted({own, *num_envs}):
    collector = settings['collector'](env=recipe, num_envs=count, seed=seed)
    policy = random_policy.RandomPolicy(collector.action_spec, seed)
    try:
      collector.run(policy, None, 1)  # The processes' start is not timed.
      rates[count] = [
          _rate(collector, policy, seconds) for _ in range(repeats)]
    finally:
      collector.close()
  median = {count: float(np.median(x)) for count, x in rates.items()}
  return {
      'env_steps_per_second': median[own],
      'num_envs': own,
      'environment': f'{recipe.kind}.{recipe.name}',
      'collector': name,
      'env_steps_per_second_by_num_envs': {
          str(count): x for count, x in median.items()},
      'all_env_steps_per_second': {
          str(count): x for count, x in rates.items()}}


def _rate(collector, policy, seconds: float) -> float:
  """Returns env steps per second over some time."""
  begin, before = time.perf_counter(), collector.env_steps
  while (elapsed := time.perf_counter() - begin) < seconds:
    collector.run(policy, None, 8)
  return (collector.env_steps - before) / elapsed
