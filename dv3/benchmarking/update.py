"""The cost of one update."""

import time
from typing import Any

import numpy as np
import tensorflow as tf

from dv3.benchmarking import flops
from dv3.benchmarking import machine
from dv3.benchmarking import workload as workload_lib
from dv3.nets import xla
from dv3.training import distribution


def measure(
    workload: workload_lib.Workload, *, repeats: int, warmup: int,
    gemm_size: int | None = None, executed: bool = False) -> dict[str, Any]:
  """Times updates on random batches, through the trainer's own update.

  A matrix product runs between any two of them, so that the ceiling belongs to
  the same minutes.

  Args:
    workload: what to measure.
    repeats: timed updates; the median counts.
    warmup: updates before them, after the first one.
    gemm_size: rows of the product that gives the ceiling; None means 2048, and
      8192 on a GPU, where smaller ones end before they are at full speed.
    executed: whether to count the FLOPs of the update's graph too.

  Returns:
    What `dv3-bench update --json` prints; see docs/performance.md.
  """
  update = workload_lib.make_update(workload)
  agent = update.agent
  batches = workload_lib.batches(workload, agent.latent_spec)
  begin = time.perf_counter()
  run(update, batches[0])
  compiling = time.perf_counter() - begin
  first_update = machine.process_seconds()
  gemm = _gemm(agent.compute_dtype, update.strategy, gemm_size)
  for number in range(warmup):
    run(update, batches[number % len(batches)])
    gemm.run()
  seconds, cpu_seconds = [], []
  for number in range(repeats):
    begin, cpu_begin = time.perf_counter(), time.process_time()
    run(update, batches[number % len(batches)])
    seconds.append(time.perf_counter() - begin)
    cpu_seconds.append(time.process_time() - cpu_begin)
    gemm.run()
  size = workload.settings['batch_size']
  length = workload.settings['batch_length']
  parts = flops.model_flops(agent, size, length)
  gflop = sum(parts.values()) / 1e9
  median = float(np.median(seconds))
  result = {
      'seconds': median,
      'seconds_best': float(np.min(seconds)),
      'cpu_seconds': float(np.median(cpu_seconds)),
      'gflop': gflop,
      'ceiling_gflops': gemm.gflops,
      'share_of_ceiling': gflop / median / gemm.gflops,
      'first_update_seconds': first_update,
      'compile_seconds': max(0.0, compiling - median),
      'peak_rss_bytes': machine.peak_rss_bytes(),
      'dtype': agent.compute_dtype,
      'device': distribution.describe(update.strategy),
      'parameters': sum(int(np.prod(v.shape)) for v in update.trained),
      'batch_size': size, 'batch_length': length,
      'traces': update.trace_count,
      'gflop_by_part': {name: x / 1e9 for name, x in parts.items()},
      'all_seconds': seconds, 'all_ceilings_gflops': gemm.rates}
  if unknown := flops.uncounted(agent):
    result['losses_not_counted'] = unknown
  if executed:
    result['executed_gflop'] = None
    try:
      result['executed_gflop'] = executed_gflop(update, batches[0])
    except ValueError as error:  # What was measured stands all the same.
      result['executed_not_counted'] = str(error)
  return result


def _gemm(dtype, strategy, size) -> machine.Gemm:
  """Returns the product that gives the ceiling of all devices."""
  if not xla.has_gpu():  # Replicas on a CPU share its cores.
    return machine.Gemm(dtype, size or 2048)
  return machine.Gemm(
      dtype, size or 8192, devices=strategy.num_replicas_in_sync)


def run(update, batch) -> None:
  """Runs one update to its end."""
  tf.nest.map_structure(np.asarray, update(batch))


def executed_gflop(update, batch) -> float:
  """Returns the GFLOP of the graph that an update runs, of all replicas.

  Args:
    update: what has run.
    batch: what it ran on, which does not trace it anew.

  Raises:
    ValueError: see `flops.executed_flops`.
  """
  step = tf.function(update.device_step, autograph=False)
  traced = step.get_concrete_function(
      distribution.scatter(update.strategy, batch))
  return flops.executed_flops(traced) / 1e9
