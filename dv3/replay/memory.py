"""How much memory replay takes, and whether it fits."""

import numpy as np

from dv3 import types

IDENTIFIER_BYTES = 8


def step_bytes(specs: types.Specs) -> int:
  """Returns the raw bytes of one stored step."""
  return sum(s.size * np.dtype(s.dtype).itemsize for s in specs.values())


def slots_for(
    capacity: int, chunk_steps: int, workers: int, stored_length: int) -> int:
  """Returns how many chunks replay preallocates.

  Each worker's sequences need their own steps and `stored_length` - 1 more,
  and begin and end inside a chunk.
  """
  tail = -(-(stored_length - 1) // chunk_steps) + 2
  return -(-capacity // chunk_steps) + workers * tail


def projected_bytes(
    specs: types.Specs, capacity: int, *, chunk_steps: int = 1024,
    workers: int = 1, stored_length: int = 65) -> int:
  """Returns the bytes that replay takes when it is full.

  Args:
    specs: of one step, with its latents.
    capacity: sequences (and steps) that it holds.
    chunk_steps: steps of a chunk.
    workers: environments that write into it.
    stored_length: steps of a sequence with its context.
  """
  steps = chunk_steps * slots_for(
      capacity, chunk_steps, workers, stored_length)
  return steps * step_bytes(specs) + capacity * IDENTIFIER_BYTES


def available_bytes() -> int | None:
  """Returns the memory that this process may still take; None if unknown.

  The smaller of the machine's available memory and what is left of the control
  group's limit.
  """
  found = []
  try:
    with open('/proc/meminfo', encoding='ascii') as file:
      for line in file:
        if line.startswith('MemAvailable:'):
          found.append(int(line.split()[1]) * 1024)
  except OSError:
    pass
  for limit, used in (
      ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current'),
      ('/sys/fs/cgroup/memory/memory.limit_in_bytes',
       '/sys/fs/cgroup/memory/memory.usage_in_bytes')):
    try:
      with open(limit, encoding='ascii') as a, open(
          used, encoding='ascii') as b:
        most = a.read().strip()
        if most != 'max':
          found.append(max(0, int(most) - int(b.read())))
    except (OSError, ValueError):
      pass
  return min(found) if found else None


def shortage(needed_bytes: int) -> str | None:
  """Returns what is wrong if replay cannot fit in memory, else None."""
  available = available_bytes()
  if available is None or needed_bytes <= available:
    return None
  return (
      f'replay would take {needed_bytes / 1e9:.1f} GB when full but '
      f'{available / 1e9:.1f} GB are available; lower train.replay_capacity '
      'or the size of the images')
