"""The rates of replay."""

import time
from typing import Any

import numpy as np

from dv3.benchmarking import machine
from dv3.benchmarking import workload as workload_lib

_CALL_ENVS = 16  # Environments that add at once, in the headline number.


def measure(
    workload: workload_lib.Workload, latent_spec, *, repeats: int,
    capacity: int, seconds: float) -> dict[str, Any]:
  """Measures adding steps, drawing sequences, and writing latents back.

  Replay holds random steps in memory, without a directory or the online queue,
  which has nothing to draw once it is empty. It is full before anything is
  timed, so that no page is touched for the first time.

  Args:
    workload: gives the entries, the lengths and the batch size.
    latent_spec: the entries of latents, which replay stores besides where
      sequences start from them.
    repeats: measurements; the median counts.
    capacity: steps that replay holds.
    seconds: of one measurement.

  Returns:
    What `dv3-bench replay --json` prints.
  """
  rng = np.random.default_rng(0)
  specs = workload_lib.specs(workload, latent_spec)
  adds = {}
  replay: Any = None
  for count in (1, _CALL_ENVS):
    replay = workload_lib.make_replay(
        workload, latent_spec, capacity=capacity, workers=count, online=False)
    steps = [
        {name: workload_lib.values(spec, (count,), rng)
         for name, spec in specs.items()} for _ in range(4)]
    workers = np.arange(count)
    number = 0
    def add(steps=steps, workers=workers, replay=replay):
      nonlocal number
      replay.add(steps[number % 4], workers)
      number += 1
    for _ in range(2 * capacity // count + replay.stored_length):
      add()
    adds[count] = [count * _rate(add, seconds) for _ in range(repeats)]
  size = workload.settings['batch_size']
  def sample():
    return replay.sample(size)
  batch = sample()
  sequences = [size * _rate(sample, seconds) for _ in range(repeats)]
  latents = {
      name: workload_lib.values(
          spec, (size, workload.settings['batch_length']), rng)
      for name, spec in latent_spec.items() if name in replay.specs}
  written = [_rate(
      lambda: replay.write_latents(batch['stepid'], latents), seconds)
      for _ in range(repeats)] if latents else []
  bytes_each = sum(
      x.nbytes for name, x in batch.items()
      if name not in ('item', 'stepid')) / size
  memcpy = machine.memcpy_bytes_per_second()
  median = lambda x: float(np.median(x))
  step_bytes = sum(
      spec.size * np.dtype(spec.dtype).itemsize for spec in specs.values())
  return {
      'adds_per_second': median(adds[_CALL_ENVS]),
      'adds_per_second_by_num_envs': {
          str(count): median(x) for count, x in adds.items()},
      'sequences_per_second': median(sequences),
      'sequence_length': replay.stored_length,
      'batch_size': size,
      'memcpy_bytes_per_second': memcpy,
      'memcpy_sequences_per_second': memcpy / bytes_each,
      'share_of_memcpy': median(sequences) * bytes_each / memcpy,
      'adds_share_of_memcpy': median(adds[_CALL_ENVS]) * step_bytes / memcpy,
      'latent_writes_per_second': median(written) if written else None,
      'bytes_per_step': step_bytes,
      'bytes_per_sequence': bytes_each,
      'capacity': capacity,
      'observations': {
          name: [spec.dtype, *spec.shape]
          for name, spec in workload.obs_spec.items()},
      'peak_rss_bytes': machine.peak_rss_bytes(),
      'all_sequences_per_second': sequences}


def _rate(call, seconds: float) -> float:
  """Returns the calls per second, measured for some time."""
  count, begin = 0, time.perf_counter()
  while (elapsed := time.perf_counter() - begin) < seconds or not count:
    for _ in range(8):  # The clock is not asked after every call.
      call()
    count += 8
  return count / elapsed
