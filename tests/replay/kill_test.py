"""A process that is killed while it writes loses nothing that it had saved."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from naive_replay import make

PROGRAM = '''
import os, pathlib, sys
import numpy as np
import naive_replay

folder = pathlib.Path(sys.argv[1])
replay = naive_replay.make(capacity=100, directory=folder / 'replay')
saved = sorted(folder.glob('saved-*'))
if saved:
  replay.load(saved[-1])
number = len(saved)
rng = np.random.default_rng(0)
while True:
  for _ in range(20):
    steps = naive_replay.random_steps(rng, 3)
    steps['reward'] = replay.counts.astype(np.float32)
    steps['latent/x'][:] = replay.counts[:, None]
    replay.add(steps, [0, 1, 2])
  replay.save(folder / 'writing')
  os.replace(folder / 'writing', folder / f'saved-{number:06d}')
  number += 1
  replay.prune(sorted(folder.glob('saved-*'))[-2:])
  print(number, flush=True)
'''


@pytest.mark.parametrize('seed', range(3))
def test_killed_at_any_instant(tmp_path, seed, caplog):
  environment = {
      **os.environ, 'PYTHONPATH': os.pathsep.join(
          [str(pathlib.Path(__file__).parent), *sys.path])}
  saves = 0
  rng = random.Random(seed)
  for _ in range(2):
    process = subprocess.Popen(
        [sys.executable, '-c', PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE, env=environment)
    process.stdout.readline()
    time.sleep(rng.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folders = sorted(tmp_path.glob('saved-*'))
    assert len(folders) > saves
    saves = len(folders)
    for folder in folders[-2:]:
      replay = make(capacity=100, directory=tmp_path / 'replay')
      replay.load(folder)
      number = int(folder.name.partition('-')[2]) + 1
      np.testing.assert_array_equal(replay.counts, np.full(3, 20 * number))
      assert len(replay) == min(100, 3 * (20 * number - 4))
      batch = replay.gather(np.arange(replay.first_item, replay.next_item))
      steps = batch['latent/x'][:, :1] + np.arange(1, 5)
      np.testing.assert_array_equal(batch['reward'], steps)
  assert not caplog.records  # No damage.
