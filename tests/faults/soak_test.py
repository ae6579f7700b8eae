"""A long run does not grow."""

import os
import pathlib
import time

import lives
import numpy as np
import pytest

ENV_STEPS = int(os.environ.get('DV3_SOAK_STEPS', '100000'))


def usage(pid):
  """Returns resident kilobytes, open files and threads of a process."""
  folder = pathlib.Path('/proc') / str(pid)
  status = dict(
      line.split(':', 1) for line in (folder / 'status').read_text(
      ).splitlines())
  return (int(status['VmRSS'].split()[0]), len(list((folder / 'fd').iterdir())),
          int(status['Threads']))


@pytest.mark.slow
def test_memory_files_and_threads_stay(zygote, tmp_path, record_property):
  logdir = tmp_path / 'run'
  life = lives.Life(
      zygote, logdir, f'--gin_param=STEPS = {ENV_STEPS}',
      '--gin_param=TASK = @env.memory', '--gin_param=NUM_ENVS = 4',
      '--gin_param=REPLAYED_STEPS_PER_ENV_STEP = 1.0',
      '--gin_param=train.replay_capacity = 2000',
      '--gin_param=train.log_every_seconds = 1',
      '--gin_param=train.save_every_seconds = 2', gin=lives.TINY)
  samples = []
  try:
    while True:
      time.sleep(1)
      folders = lives.checkpoints(logdir)
      if folders:
        try:
          samples.append(usage(life.pid))
        except (OSError, KeyError):  # It has ended.
          break
  finally:
    code = life.wait()
  assert code == 0, life.output
  samples = np.array(samples)
  np.savetxt(tmp_path / 'soak.txt', samples, fmt='%d')
  # The first tenth fills replay and caches; medians, for a save in progress.
  early, late = (
      np.median(samples[begin: end], 0) for begin, end in (
          (len(samples) // 10, len(samples) // 5), (-len(samples) // 10, None)))
  record_property('early', early.tolist())
  record_property('late', late.tolist())
  print('kB, files, threads:', early.tolist(), late.tolist(), len(samples))
  assert late[0] < 1.03 * early[0] + 10_000
  assert late[1] <= early[1] + 2
  assert late[2] <= early[2] + 1
