"""How much memory replay takes, and whether it fits."""

import pathlib

import numpy as np

from dv3 import types

_INDEX_BYTES = 8  # Of one position or item number.
# Control groups, both versions: folder, limit, usage, and what of the usage is
# cache that the kernel gives up first.
_GROUPS = (
    (pathlib.Path('/sys/fs/cgroup'), 'memory.max', 'memory.current',
     'inactive_file'),
    (pathlib.Path('/sys/fs/cgroup/memory'), 'memory.limit_in_bytes',
     'memory.usage_in_bytes', 'total_inactive_file'))


def step_bytes(specs: types.Specs) -> int:
  """Returns the raw bytes of one stored step."""
  return sum(s.size * np.dtype(s.dtype).itemsize for s in specs.values())


def slots_for(
    capacity: int, chunk_steps: int, workers: int, length: int) -> int:
  """Returns how many chunks are in use at most.

  A worker whose oldest sequence starts s steps ago touches at most
  ceil((s - 1) / chunk_steps) + 1 chunks, s being its sequences, the L - 1
  steps at which none starts yet, and the step that is being added.

  Args:
    capacity: sequences to hold, over all workers.
    chunk_steps: steps of a chunk.
    workers: how many workers write.
    length: L, steps of a sequence.
  """
  steps = capacity + workers * (length - 1 + chunk_steps - 1)
  return steps // chunk_steps + workers


def bytes_by_entry(
    specs: types.Specs, capacity: int, *, chunk_steps: int = 1024,
    workers: int = 1, length: int = 65) -> dict[str, int]:
  """Returns the bytes that replay allocates for each entry and its index.

  Args:
    specs: of one step, with its latents.
    capacity: sequences that it holds, one for each step.
    chunk_steps: steps of a chunk.
    workers: environments that write into it.
    length: L, stored steps of a sequence.
  """
  steps = slots_for(capacity, chunk_steps, workers, length) * chunk_steps
  result = {
      name: steps * spec.size * np.dtype(spec.dtype).itemsize
      for name, spec in specs.items()}
  result['index'] = (steps + capacity) * _INDEX_BYTES
  return result


def projected_bytes(specs: types.Specs, capacity: int, **kwargs: int) -> int:
  """Returns the sum of `bytes_by_entry`, whose arguments it takes."""
  return sum(bytes_by_entry(specs, capacity, **kwargs).values())


def available_bytes() -> int | None:
  """Returns the memory that this process may still take; None if unknown.

  The smaller of the machine's available memory and what is left of the control
  group's limit, where cached files that nobody used lately count as free.
  """
  found = []
  try:
    with open('/proc/meminfo', encoding='ascii') as file:
      for line in file:
        if line.startswith('MemAvailable:'):
          found.append(int(line.split()[1]) * 1024)
  except OSError:
    pass
  for folder, limit, used, cached in _GROUPS:
    try:
      most = (folder / limit).read_text().strip()
      if most != 'max':
        taken = int((folder / used).read_text()) - _cached(folder, cached)
        found.append(max(0, int(most) - taken))
    except (OSError, ValueError):
      pass
  return min(found) if found else None


def _cached(folder: pathlib.Path, name: str) -> int:
  """Returns the bytes of a control group's idle cached files."""
  try:
    lines = (folder / 'memory.stat').read_text().splitlines()
  except OSError:
    return 0
  return next((int(x.split()[1]) for x in lines if x.split()[0] == name), 0)


def shortage(needed_bytes: int) -> str | None:
  """Returns what is wrong if replay cannot fit in memory, else None."""
  available = available_bytes()
  if available is None or needed_bytes <= available:
    return None
  return (
      f'replay would take {needed_bytes / 1e9:.1f} GB when full but '
      f'{available / 1e9:.1f} GB are available; lower train.replay_capacity '
      'or the size of the images')
