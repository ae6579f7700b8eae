"""How much memory replay takes."""

import subprocess
import sys

import naive_replay
import numpy as np
import pytest

from dv3 import errors
from dv3 import types
from dv3.replay import memory
from dv3.replay import replay as replay_lib

IMAGES = {
    'image': types.Spec((64, 64, 3), 'uint8'),
    'action': types.Spec((), 'int32', (6,)),
    'reward': types.Spec((), 'float32'), 'is_first': types.Spec((), 'bool'),
    'is_last': types.Spec((), 'bool'), 'is_terminal': types.Spec((), 'bool'),
    'latent/deter': types.Spec((512,), 'float32'),
    'latent/stoch': types.Spec((4,), 'int8')}
RAW = 64 * 64 * 3 + 4 + 4 + 3 + 512 * 4 + 4


@pytest.mark.parametrize('workers', [1, 16])
@pytest.mark.parametrize('chunk_steps', [100, 1024])
def test_projection_is_what_is_allocated(workers, chunk_steps):
  replay = replay_lib.Replay(
      IMAGES, capacity=9999, length=64, context=1, workers=workers,
      chunk_steps=chunk_steps)
  projected = memory.bytes_by_entry(
      IMAGES, 9999, workers=workers, chunk_steps=chunk_steps, length=65)
  for name, array in replay.chunks.arrays.items():
    assert array.nbytes == projected.pop(name)
  assert projected == {
      'index': replay.chunks.ends.nbytes + replay.starts.nbytes}


@pytest.mark.parametrize('capacity, workers', [
    (110_000, 1), (500_000, 8), (1_000_000, 16), (5_000_000, 64)])
def test_is_the_raw_bytes_within_five_percent(capacity, workers):
  assert memory.step_bytes(IMAGES) == RAW
  projected = replay_lib.projected_bytes(IMAGES, capacity, workers=workers)
  assert capacity * RAW <= projected <= 1.05 * capacity * RAW


def test_room_suffices_exactly():
  """The worst alignment of the streams takes every chunk."""
  most = 0
  for seed in range(5):
    rng = np.random.default_rng(seed)
    replay = naive_replay.make(capacity=20, length=8, chunk_steps=4)
    for _ in range(500):
      workers = np.flatnonzero(rng.random(3) < rng.random(3))
      if len(workers):
        replay.add(naive_replay.random_steps(rng, len(workers)), workers)
      most = max(most, len(replay.chunks.alive()))
    assert len(replay) == 20
  assert most <= memory.slots_for(20, 4, 3, 9) <= most + 3


def test_memory_is_taken_as_it_is_needed(tmp_path):
  """Resident memory of a process, before and after steps are added."""
  program = tmp_path / 'program.py'
  program.write_text(f'''
import numpy as np
from dv3 import types
from dv3.replay import replay as replay_lib

def resident():
  with open('/proc/self/status') as file:
    return next(int(x.split()[1]) for x in file if x.startswith('VmRSS')) / 1024

specs = {{k: types.Spec(*v) for k, v in {
    {k: tuple(v) for k, v in IMAGES.items()}!r}.items()}}
before = resident()
replay = replay_lib.Replay(
    specs, capacity=60_000, length=64, context=1, workers=4)
made = resident()
steps = {{k: np.ones((4, *s.shape), s.dtype) for k, s in specs.items()}}
for _ in range(1024):
  replay.add(steps, [0, 1, 2, 3])
print(made - before, resident() - made)
''')
  output = subprocess.run(
      [sys.executable, program], capture_output=True, text=True, check=True)
  made, added = map(float, output.stdout.split())
  raw = 4096 * RAW / 2 ** 20
  assert made < 10
  # Pages of 2 MiB at both ends of the chunks of each entry, where there are.
  assert raw <= added <= 1.05 * raw + 10


def test_what_cannot_fit_is_refused(monkeypatch):
  monkeypatch.setattr(memory, 'available_bytes', lambda: 10 ** 9)
  assert memory.shortage(10 ** 9) is None
  assert 'replay_capacity' in memory.shortage(10 ** 9 + 1)
  with pytest.raises(
      errors.UserError, match='1.5 GB when full but 1.0 GB.*lower.*capacity'):
    replay_lib.Replay(IMAGES, capacity=100_000, length=64, context=1)


def test_idle_cached_files_are_no_memory_in_use(monkeypatch, tmp_path):
  (tmp_path / 'memory.max').write_text('3000000\n')
  (tmp_path / 'memory.current').write_text('2900000\n')
  monkeypatch.setattr(memory, '_GROUPS', ((
      tmp_path, 'memory.max', 'memory.current', 'inactive_file'),))
  assert memory.available_bytes() == 100_000
  (tmp_path / 'memory.stat').write_text(
      'anon 400000\nactive_file 500000\ninactive_file 2000000\n')
  assert memory.available_bytes() == 2_100_000


def test_available_memory_is_that_of_this_machine():
  with open('/proc/meminfo') as file:
    total = int(file.readline().split()[1]) * 1024
  assert 0 < memory.available_bytes() < total
