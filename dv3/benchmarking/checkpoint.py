"""What a checkpoint costs."""

import pathlib
import tempfile
import time
import types as python_types
from typing import Any

import numpy as np

from dv3.benchmarking import machine
from dv3.benchmarking import workload as workload_lib
from dv3.training import checkpoints
from dv3.training import cluster
from dv3.training import run

_WORKERS = 16  # Environments that fill replay.


def measure(
    workload: workload_lib.Workload, *, repeats: int, capacity: int,
    logdir: str | None = None) -> dict[str, Any]:
  """Saves a run with so many steps in replay, again and again.

  Agent, optimizers and replay are those of training; replay holds random
  steps, whose chunk files are on disk, as they are in a run. `share_of_time` is
  the part of a run for which training stands still, with a checkpoint every
  `train.save_every_seconds`; the rest of it is written in a thread.

  Args:
    workload: gives the agent, and the entries of replay.
    repeats: saves; the median counts.
    capacity: steps in replay.
    logdir: where to save; None means a temporary folder.

  Returns:
    What `dv3-bench checkpoint --json` prints.
  """
  update = workload_lib.make_update(workload)
  with tempfile.TemporaryDirectory(dir=logdir) as folder:
    path = pathlib.Path(folder)
    replay = _fill(workload, update.agent.latent_spec, path, capacity)
    keeper = checkpoints.Checkpoints(
        path / 'checkpoints', keep=workload.settings['keep_checkpoints'])
    nothing = python_types.SimpleNamespace(state=dict)
    def write(folder, number):
      return run.save(
          folder, workers=cluster.Cluster(None),
          tally=python_types.SimpleNamespace(env_steps=number),
          update=update, replay=replay, collector=nothing, pipeline=nothing,
          feed=nothing, credit=run.Credit(1.0), config_text='')
    def prune():
      replay.prune([x / 'replay' for x in keeper.all()])
    def save(number):
      begin, cpu = time.perf_counter(), time.process_time()
      keeper.save(number, lambda folder: write(folder, number), then=prune)
      seconds = time.perf_counter() - begin
      keeper.settle()
      return seconds, keeper.seconds, time.process_time() - cpu
    save(0)  # Its chunks were to be written.
    seconds, whole, cpu = zip(
        *(save(number) for number in range(1, repeats + 1)), strict=True)
    sizes = [
        x.stat().st_size for x in keeper.all()[-1].rglob('*') if x.is_file()]
  every = workload.settings['save_every_seconds']
  median = float(np.median(seconds))
  return {
      'seconds': median,
      'seconds_until_whole': float(np.median(whole)),
      # Of all threads, which other programs on the machine do not change.
      'cpu_seconds': float(np.median(cpu)),
      'save_every_seconds': every,
      'share_of_time': median / (median + every),
      'checkpoint_bytes': sum(sizes),
      'capacity': capacity,
      'peak_rss_bytes': machine.peak_rss_bytes(),
      'all_seconds': seconds}


def _fill(workload, latent_spec, path, capacity):
  """Returns a replay of random steps that writes files."""
  rng = np.random.default_rng(0)
  replay = workload_lib.make_replay(
      workload, latent_spec, capacity=capacity, workers=_WORKERS,
      directory=path / 'replay', online=False,
      chunk_steps=workload.settings['replay_chunk_steps'])
  steps = [
      {name: workload_lib.values(spec, (_WORKERS,), rng)
       for name, spec in workload_lib.specs(workload, latent_spec).items()}
      for _ in range(4)]
  for number in range(capacity // _WORKERS):
    replay.add(steps[number % 4], np.arange(_WORKERS))
  return replay
