"""The collector of environments on any number of machines, in Ray actors."""

import contextlib
import logging as python_logging
import os
import signal
import socket
import threading
import time
from typing import Any

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.collectors import actor
from dv3.collectors import stepping
from dv3.collectors import worker
from dv3.envs import extras

_POLL_SECONDS = 0.5
_STORE_BYTES = 128 * 2 ** 20  # Observations are small; they travel in messages.


@registry.register('collector', 'ray')
class RayCollector(stepping.SteppingCollector):
  """Steps environments in Ray actors, on as many machines as Ray has.

  The policy stays in the learner and serves all environments in one batch; an
  observation travels there and an action back. Everything else is as with
  `collector.local`: one environment an actor, and one that raises, hangs or
  dies, with its actor or its whole machine, is started anew at the cost of its
  episode. dv3, the environment's package and plugins have to be installed on
  every machine. docs/distribution.md says how to start Ray there.

  Args:
    env: recipe of the environment.
    seed: of the run; episode n of environment i always starts alike.
    num_envs: how many environments, each in an actor.
    hang_seconds: a step or reset that takes longer hangs; 0 waits forever.
      The first reset of an actor, which waits for a machine that has room and
      builds the environment, has 300 seconds or more.
    max_restarts: of an environment in a row, without a whole step between;
      one more ends the run.
    address: 'host:port' of the Ray cluster, 'auto' for one on this machine,
      'local' for one that starts and ends with this process. None asks the
      environment variable RAY_ADDRESS, and without it means 'local'. A process
      belongs to one cluster: the first address counts.
    cpus_per_env: what Ray reserves for each actor. At 0 actors are spread over
      the machines whatever their cores.

  Raises:
    UserError: if Ray is not installed, or the cluster cannot be reached or can
      never have so many CPUs; (`run`) if an environment cannot be built, or
      fails more often.
  """

  def __init__(
      self, *, env: types.Recipe, seed: int = 0, num_envs: int = 1,
      hang_seconds: float = 300.0, max_restarts: int = 5,
      address: str | None = None, cpus_per_env: float = 0.0):
    self._ray = _connected(address)
    self._options = {
        'num_cpus': cpus_per_env, 'scheduling_strategy': 'SPREAD'}
    super().__init__(
        env=env, seed=seed, num_envs=num_envs, hang_seconds=hang_seconds,
        max_restarts=max_restarts)

  def resize(self, num_envs):
    wanted = num_envs * self._options['num_cpus']
    there = self._ray.cluster_resources().get('CPU', 0.0)
    if wanted > there:
      raise errors.UserError(
          f'{num_envs} environments with cpus_per_env = '
          f"{self._options['num_cpus']:g} need {wanted:g} CPUs, Ray has "
          f'{there:g}; lower collector.ray.cpus_per_env or num_envs, or start '
          'Ray on more machines')
    super().resize(num_envs)

  def _probe(self, recipe):
    # No CPUs asked for: it must not wait for more than there are.
    task = self._ray.remote(num_cpus=0, max_retries=0, max_calls=1)(
        worker.look)
    try:
      return _result(self._ray, task.remote(recipe))
    except ConnectionError as error:
      raise errors.UserError(
          f'the Ray worker that built {recipe.kind}.{recipe.name} died; try '
          'the environment alone in Python, and check its graphics libraries '
          'and memory') from error

  def _process(self, make, seconds):
    return _Process(self._ray, self._options, make, seconds)


class _Process:
  """One environment in a Ray actor; has the contract of `worker.Process`."""

  def __init__(self, ray, options, make, seconds):
    self.seconds = seconds
    self._ray = ray
    self._actor = ray.remote(
        max_restarts=0, max_task_retries=0, **options)(
            actor.Environment).remote(make)
    self._pending: Any = None

  def reset(self):
    self.ask('reset')
    return self.receive()

  def send(self, actions):
    self.ask('step', actions)

  def end(self):
    self.ask('end')
    self.receive()

  def ask(self, method, *arguments):
    """Starts a method of the actor."""
    self._pending = getattr(self._actor, method).remote(*arguments)

  def receive(self):
    """Waits for what was asked for."""
    begin = time.monotonic()
    while True:
      try:
        return _result(self._ray, self._pending, _POLL_SECONDS)
      except self._ray.exceptions.GetTimeoutError:
        if 0 < self.seconds <= time.monotonic() - begin:
          raise worker.Hung(
              f'did not answer for {self.seconds:g} seconds') from None

  def ask_to_close(self):
    with contextlib.suppress(self._ray.exceptions.RayError):  # Dead already.
      self.ask('close')

  def close(self, deadline: float = 0.0):
    left = deadline - time.monotonic()
    with contextlib.suppress(self._ray.exceptions.RayError):
      if left > 0:
        self._ray.wait([self._pending], timeout=left)
      self._ray.kill(self._actor)


def _result(ray, reference, timeout=None):
  """Returns a remote result; raises the remote error itself."""
  try:
    return ray.get(reference, timeout=timeout)
  except ray.exceptions.GetTimeoutError:
    raise
  except ray.exceptions.RayTaskError as error:
    raise error.cause from None
  except ray.exceptions.RayError as error:
    raise ConnectionError(' '.join(str(error).split())) from None


def _connected(address: str | None) -> Any:
  """Returns the module `ray`, connected to a cluster or to one of its own."""
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
  # Or it warns at every actor that does not ask for a GPU.
  os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
  ray = extras.load('ray', 'collector.ray', 'ray')
  if ray.is_initialized():
    return ray
  address = address or os.environ.get('RAY_ADDRESS') or 'local'
  local = {
      'include_dashboard': False, 'object_store_memory': _STORE_BYTES,
  } if address == 'local' else {}
  try:
    if address not in ('auto', 'local'):
      _answers(address)
    with _kept_signals():
      ray.init(
          address, logging_level=python_logging.ERROR, namespace='dv3',
          **local)
  except (OSError, RuntimeError, ValueError) as error:
    raise errors.UserError(
        f'Ray at {address!r} cannot be reached ({error}); start it there with '
        '`ray start --head`, or set collector.ray.address') from error
  return ray


def _answers(address: str) -> None:
  """Raises an error where nobody listens: Ray would try for minutes."""
  host, _, port = address.rpartition('/')[2].rpartition(':')
  socket.create_connection((host, int(port)), timeout=30).close()


@contextlib.contextmanager
def _kept_signals():
  """Gives SIGTERM back to its owner: Ray takes it, and would not save."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  owner = signal.getsignal(signal.SIGTERM)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, owner)
