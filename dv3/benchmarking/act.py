"""The rate of acting."""

import time
from typing import Any

import numpy as np

from dv3.benchmarking import machine
from dv3.benchmarking import workload as workload_lib
from dv3.training import distribution
from dv3.training import policy as policy_lib
from dv3.training import step

_EPISODE = 100  # Env steps of the trivial environment.
_OBSERVATIONS = 8  # Different ones, in turn.


class Trivial:
  """Environments in this process that cost next to nothing.

  Observations are random and known beforehand, episodes have one length,
  nothing depends on the actions.

  Args:
    obs_spec: the observation entries.
    num_envs: how many environments.
    seed: of the observations.
  """

  def __init__(self, obs_spec, num_envs: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    self._observations = [
        {name: workload_lib.values(spec, (num_envs,), rng)
         for name, spec in obs_spec.items()} for _ in range(_OBSERVATIONS)]
    self._first = np.ones(num_envs, bool)
    self._later = np.zeros(num_envs, bool)
    self._step = 0

  def step(self):
    """Returns (observations {name: [n, ...]}, is_first [n])."""
    is_first = self._later if self._step % _EPISODE else self._first
    obs = self._observations[self._step % _OBSERVATIONS]
    self._step += 1
    return obs, is_first


def measure(
    workload: workload_lib.Workload, *, configured: int, repeats: int,
    seconds: float, num_envs: tuple[int, ...] = (1, 16)) -> dict[str, Any]:
  """Measures env steps per second of the policy alone.

  Args:
    workload: what to measure.
    configured: the number of environments in training.
    repeats: measurements; the median counts.
    seconds: of one measurement.
    num_envs: further numbers of environments.

  Returns:
    What `dv3-bench act --json` prints.
  """
  strategy = distribution.make_strategy()
  agent = workload_lib.make_agent(workload, strategy)
  compiled = step.choose_compiler(
      workload.settings['jit_compile'], agent, strategy)
  rates, first = {}, {}
  for count in sorted({configured, *num_envs}):
    policy = policy_lib.Policy(
        agent, seed=workload.settings['seed'], jit_compile=compiled)
    env = Trivial(workload.obs_spec, count)
    begin = time.perf_counter()
    play = _Play(policy, env, count)
    play.run(1)
    first[count] = time.perf_counter() - begin
    steps = max(1, int(seconds / play.run(10)))
    rates[count] = [count / play.run(steps) for _ in range(repeats)]
  median = {count: float(np.median(x)) for count, x in rates.items()}
  return {
      'env_steps_per_second': median[configured],
      'num_envs': configured,
      'env_steps_per_second_by_num_envs': {
          str(count): x for count, x in median.items()},
      'first_call_seconds_by_num_envs': {
          str(count): x for count, x in first.items()},
      'peak_rss_bytes': machine.peak_rss_bytes(),
      'dtype': agent.compute_dtype,
      'all_env_steps_per_second': {
          str(count): x for count, x in rates.items()}}


class _Play:
  """Goes on acting from call to call, as the collector does."""

  def __init__(self, policy, env, num_envs):
    self._policy = policy
    self._env = env
    self._state = policy.initial(num_envs)
    self._calls = 0

  def run(self, steps: int) -> float:
    """Acts so many times; returns the mean seconds of one."""
    begin = time.perf_counter()
    for _ in range(steps):
      obs, is_first = self._env.step()
      _, _, self._state = self._policy(
          obs, is_first, self._state, self._calls)
      self._calls += 1
    return (time.perf_counter() - begin) / steps
