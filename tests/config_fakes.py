"""A small family of configurables for the tests of `dv3.config`."""

from collections.abc import Callable

import gin

import dv3
from dv3 import interfaces


@gin.register('learn', module='fakes', denylist=['logdir'])
def learn(
    *, logdir: str = '', part: Callable | None = None, world: Callable = None,
    env_steps: int = 10, rate: float = 0.5, name: str = 'x',
    widths: tuple[int, ...] = (1,), scales: dict[str, float] | None = None,
    fast: bool = False, log_every_seconds: float = 1.0,
    writers: tuple[Callable, ...] = ()):
  """Returns its arguments, parts built."""
  return {
      'part': part and part(), 'world': world and world(),
      'env_steps': env_steps, 'rate': rate, 'name': name, 'widths': widths,
      'scales': scales, 'fast': fast,
      'writers': [writer(logdir=logdir) for writer in writers]}


@dv3.register('balancer', 'fake.sum')
class Sum(interfaces.Balancer):
  """Adds the losses."""

  def __init__(self, *, factor: float = 1.0, inner: Callable | None = None):
    self.factor = factor
    self.inner = inner and inner()

  def __call__(self, means):
    return self.factor * sum(means.values()), {}


@dv3.register('balancer', 'fake.other')
class Other(Sum):
  """Another one."""


@dv3.register('normalizer', 'fake.range')
class Range(interfaces.Normalizer):
  """A range."""

  def __init__(self, *, low: float = 0.0, rate: float = 0.1):
    self.low, self.rate = low, rate

  def build(self):
    pass

  def update(self, values):
    return 0.0, 1.0

  def read(self):
    return 0.0, 1.0


@dv3.register('env', 'fake.grid')
def grid(*, size: int, wall: bool = False):
  """Returns a stand-in for an environment."""
  return size, wall


@dv3.register('logger', 'fake.lines')
class Lines(interfaces.Logger):
  """Writes nothing."""

  def __init__(self, *, logdir: str, width: int = 80):
    self.logdir, self.width = logdir, width

  def write(self, step, metrics):
    pass
