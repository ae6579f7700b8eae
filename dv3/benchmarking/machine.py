"""What this machine can do, and what this process has taken of it."""

import os
import resource
import time

import numpy as np

_STARTED = time.monotonic()  # Where there is no /proc: our own import.


def process_seconds() -> float:
  """Returns the seconds since this process was started.

  With Python's own start and all imports; without /proc since this module was
  imported.
  """
  try:
    with open('/proc/self/stat', encoding='ascii') as file:
      # Fields are counted after the name, which may hold spaces.
      ticks = int(file.read().rpartition(')')[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - (
        ticks / os.sysconf('SC_CLK_TCK'))
  except (OSError, AttributeError):
    return time.monotonic() - _STARTED


def peak_rss_bytes() -> int:
  """Returns the most memory that this process had resident so far, in bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Gemm:
  """Times a large square matrix product, the ceiling of all that computes.

    gemm = Gemm('float32')
    gemm.run()                 # now and then, between what is measured
    gemm.gflops                # the best so far

  Args:
    dtype: 'float32' or 'bfloat16', of operands and result.
    size: rows and columns.
    devices: how many work at what is measured. The product runs on one of
      them, and its rate counts so many times.
  """

  def __init__(self, dtype: str, size: int = 2048, devices: int = 1):
    import tensorflow as tf
    make = lambda seed: tf.cast(
        tf.random.stateless_normal([size, size], (0, seed)), dtype)
    self._operands = make(0), make(1)
    self._product = tf.function(
        lambda a, b: tf.reduce_max(tf.matmul(a, b)), autograph=False)
    self._gflop = devices * 2 * size ** 3 / 1e9
    self.rates: list[float] = []
    self._product(*self._operands)  # Traced, and its threads started.

  def run(self) -> float:
    """Runs one product; returns the GFLOP/s of all devices."""
    begin = time.perf_counter()
    float(self._product(*self._operands))
    self.rates.append(self._gflop / (time.perf_counter() - begin))
    return self.rates[-1]

  @property
  def gflops(self) -> float:
    """The best GFLOP/s of all runs."""
    return max(self.rates)


def memcpy_bytes_per_second(
    size: int = 1 << 26, repeats: int = 10) -> float:
  """Returns the best rate of copying arrays that no cache holds.

  Args:
    size: bytes copied at a time.
    repeats: how often.
  """
  source = np.ones(size, np.uint8)
  target = np.zeros(size, np.uint8)  # Its pages exist before the clock runs.
  best = np.inf
  for _ in range(repeats):
    begin = time.perf_counter()
    np.copyto(target, source)
    best = min(best, time.perf_counter() - begin)
  return size / best
