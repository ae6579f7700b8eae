"""What a checkpoint costs."""

import contextlib
import pathlib
import tempfile
import time
import types as python_types
from typing import Any

import numpy as np

from dv3 import errors
from dv3.benchmarking import machine
from dv3.benchmarking import workload as workload_lib
from dv3.loggers import files
from dv3.training import checkpoints
from dv3.training import cluster
from dv3.training import run


def measure(
    workload: workload_lib.Workload, *, num_envs: int, repeats: int,
    capacity: int, logdir: str | None = None) -> dict[str, Any]:
  """Saves a run with so many steps in replay, again and again.

  Agent, optimizers and replay are those of training; replay holds random
  steps of `num_envs` environments, whose chunk files are on disk,
  as they are in a run. While a thread writes, latents are written back as
  updates do it; `seconds` has what training stands still for, with the copies
  that this costs. `share_of_time` is its part of a run with a checkpoint every
  `train.save_every_seconds`.

  Args:
    workload: gives the agent, and the entries of replay.
    num_envs: the number of environments in training.
    repeats: saves; the median counts.
    capacity: steps in replay.
    logdir: where to save; None means a temporary folder.

  Returns:
    What `dv3-bench checkpoint --json` prints.

  Raises:
    UserError: if nothing can be written there, or for too small a replay.
  """
  with contextlib.ExitStack() as stack:
    path = pathlib.Path(stack.enter_context(_folder(logdir)))
    update = workload_lib.make_update(workload)
    replay = _fill(workload, update.agent.latent_spec, path, capacity, num_envs)
    if not len(replay):
      least = num_envs * (replay.stored_length + 1)
      raise errors.UserError(
          f'--capacity={capacity} holds no sequence of {replay.stored_length} '
          f'steps of each of {num_envs} environments; {least} do')
    keeper = checkpoints.Checkpoints(
        path / 'checkpoints', keep=workload.settings['keep_checkpoints'])
    stack.callback(keeper.close)  # Before its folder goes.
    nothing = python_types.SimpleNamespace(state=dict)
    stored = {
        name: spec for name, spec in update.agent.latent_spec.items()
        if name in replay.specs}
    backs: list[float] = []
    def write_back():
      if not stored:
        return 0.0
      batch = replay.sample(workload.settings['batch_size'])
      latents = {
          name: np.zeros((*batch['stepid'].shape, *spec.shape), spec.dtype)
          for name, spec in stored.items()}
      begin = time.perf_counter()
      replay.write_latents(batch['stepid'], latents)
      backs.append(time.perf_counter() - begin)
      return backs[-1]
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
      stalled = time.perf_counter() - begin
      cpu_saving = time.process_time() - cpu
      while keeper.writing:
        write_back()
        time.sleep(0.1)  # An update.
      # What write-backs take longer than now, when nothing is written.
      usual = min(write_back() for _ in range(3))
      stalled += sum(x - usual for x in backs if x > usual)
      backs.clear()
      return stalled, keeper.seconds, cpu_saving
    save(0)  # Its chunks were to be written.
    seconds, whole, cpu = zip(
        *(save(number) for number in range(1, repeats + 1)), strict=True)
    sizes = [
        x.stat().st_size for x in keeper.all()[-1].rglob('*') if x.is_file()]
  every = workload.settings['save_every_seconds']
  median, until_whole = float(np.median(seconds)), float(np.median(whole))
  return {
      'seconds': median,
      'seconds_until_whole': until_whole,
      # Of all threads, which other programs on the machine do not change.
      'cpu_seconds': float(np.median(cpu)),
      'save_every_seconds': every,
      # From the begin of one to that of the next, which is early.
      'share_of_time': (
          median / (every - min(until_whole, every / 2)) if every > 0 else 0.0),
      'checkpoint_bytes': sum(sizes),
      'capacity': capacity,
      'peak_rss_bytes': machine.peak_rss_bytes(),
      'all_seconds': seconds}


def _folder(logdir):
  """Returns the context of a new folder, in `logdir` or a temporary one."""
  try:
    if logdir is not None:
      pathlib.Path(logdir).mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=logdir)
  except OSError as error:
    raise files.write_error(logdir or tempfile.gettempdir(), error) from error


def _fill(workload, latent_spec, path, capacity, count):
  """Returns a replay of random steps that writes files."""
  rng = np.random.default_rng(0)
  replay = workload_lib.make_replay(
      workload, latent_spec, capacity=capacity, workers=count,
      directory=path / 'replay', online=False,
      chunk_steps=workload.settings['replay_chunk_steps'])
  steps = [
      {name: workload_lib.values(spec, (count,), rng)
       for name, spec in workload_lib.specs(workload, latent_spec).items()}
      for _ in range(4)]
  for number in range(-(-capacity // count)):
    replay.add(steps[number % 4], np.arange(count))
  return replay
