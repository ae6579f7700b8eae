"""Several processes that are one run: what they must agree on.

Each worker of `MultiWorkerMirroredStrategy` has environments, policy and a
replay shard of its own. All of them run the same loop in lock-step: what
decides how it goes on (env steps, stop, save) is exchanged in each round, so
that every worker takes the same decisions.
"""

import contextlib
import json
import os
import pathlib

import numpy as np
import tensorflow as tf

from dv3 import errors
from dv3 import types

_LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError,
    tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.InternalError)


class PeerLostError(Exception):
  """Another worker died or was cut off; the last checkpoint has the run.

  Attributes:
    stopped: the signal that had asked this worker to stop, if one had.
  """

  stopped: str | None = None


class Cluster:
  """The workers of a run; also of a run that is one process.

    cluster = Cluster(strategy, *place())
    rows = cluster.gather([env_steps, ready])              # [workers, n]
    if cluster.any(stop.requested): ...

  Every worker must call the same methods in the same order.

  Args:
    strategy: a `MultiWorkerMirroredStrategy` if there are several workers.
    index: this worker's number, 0 for the chief.
    count: workers.
  """

  def __init__(self, strategy, index: int = 0, count: int = 1):
    self.index = index
    self.count = count
    self._strategy = strategy
    self._exchange = tf.function(self._trace, autograph=False)

  @property
  def is_chief(self) -> bool:
    """Whether this worker writes logs and variables."""
    return self.index == 0

  def gather(self, numbers) -> np.ndarray:
    """Returns every worker's numbers, float64 [workers, n].

    Args:
      numbers: [n] numbers, n the same everywhere.

    Raises:
      PeerLostError: if another worker does not answer.
    """
    mine = np.asarray(numbers, np.float64)[None]
    if self.count == 1:
      return mine
    with guard(self):
      result = self._strategy.experimental_local_results(
          self._exchange(tf.constant(mine)))[0].numpy()
    # Replicas of one worker repeat its numbers.
    return result[::len(result) // self.count]

  def any(self, condition) -> bool:
    """Whether a condition holds on some worker."""
    return bool(self.gather([bool(condition)]).any())

  def all(self, condition) -> bool:
    """Whether a condition holds on every worker."""
    return bool(self.gather([bool(condition)]).all())

  def chiefs(self, number: float) -> float:
    """Returns the chief's number on every worker."""
    return float(self.gather([number])[0, 0])

  def barrier(self) -> None:
    """Waits until every worker is here."""
    self.gather([0])

  def folder(self, path: pathlib.Path) -> pathlib.Path:
    """Returns where this worker keeps what is its own, in a shared folder."""
    return own_folder(path, self.index)

  def seed(self, seed: int) -> int:
    """Returns a seed of this worker's own; the chief's is the run's."""
    return seed if self.is_chief else int(
        np.random.SeedSequence([seed % 2 ** 63, self.index]).generate_state(
            1, np.uint32)[0])

  def share(self, count: int, name: str) -> int:
    """Returns this worker's part of a number.

    Raises:
      UserError: if the workers do not divide it.
    """
    if count % self.count:
      raise errors.UserError(
          f'{name} {count} does not divide among {self.count} workers; choose '
          'a multiple of their number, or another --workers')
    return count // self.count

  def _trace(self, numbers):
    def run():
      context = tf.distribute.get_replica_context()
      # The copy lies on the replica's device, which the collective asks for.
      return context.all_gather(tf.identity(numbers), 0)
    return self._strategy.run(run)


class Tally:
  """Counts what the environments of all workers do.

    tally = Tally(cluster, num_envs=4)
    episodes, ready = tally.add(4, episodes, ready)

  Args:
    cluster: the workers.
    num_envs: of each worker. Twice as many episodes fit into a round: those of
      all environments that end in it, and that a resume cut. Of a collector
      that returns more, the rest comes with the next rounds.

  Attributes:
    env_steps: of all workers, since the run began.
    earned: of all workers, in the last round.
  """

  def __init__(self, cluster: Cluster, num_envs: int):
    self.env_steps = 0
    self.earned = 0
    self._cluster = cluster
    self._num_envs = num_envs
    self._waiting: list[types.Episode] = []

  def add(
      self, env_steps: int, episodes: list[types.Episode], ready: bool
  ) -> tuple[list[types.Episode], bool]:
    """Takes in one round of every worker.

    Args:
      env_steps: that this worker's environments took.
      episodes: that ended in them.
      ready: whether this worker could train.

    Returns:
      (the episodes of all workers, whether all of them are ready). Other
      workers' episodes come without their extras.
    """
    if self._cluster.count == 1:
      self.earned = env_steps
      self.env_steps += env_steps
      return episodes, ready
    table = np.full((2 * self._num_envs, 4), np.nan)
    self._waiting += episodes
    sent, self._waiting = (
        self._waiting[:len(table)], self._waiting[len(table):])
    for row, episode in zip(table, sent, strict=False):
      row[:] = (
          episode.score, episode.length, episode.worker, episode.truncated)
    rows = self._cluster.gather([env_steps, ready, *table.ravel()])
    self.earned = int(rows[:, 0].sum())
    self.env_steps += self.earned
    result = []
    for index, row in enumerate(rows):
      if index == self._cluster.index:
        found = sent
      else:
        found = [
            types.Episode(
                step=0, score=float(score), length=int(length),
                worker=int(worker), truncated=bool(truncated), extras={})
            for score, length, worker, truncated in row[2:].reshape(-1, 4)
            if length == length]
      result += [
          episode._replace(
              step=self.env_steps,
              worker=index * self._num_envs + episode.worker)
          for episode in found]
    return result, bool(rows[:, 1].all())


@contextlib.contextmanager
def guard(cluster: Cluster):
  """Turns the errors of a broken cluster into PeerLostError."""
  try:
    yield
  except _LOST as error:
    if cluster.count == 1:
      raise
    raise PeerLostError(
        f'worker {cluster.index} lost another worker '
        f'({type(error).__name__}: {" ".join(str(error).split())[:300]})'
        ) from error


def own_folder(path: pathlib.Path, index: int) -> pathlib.Path:
  """Returns where a worker keeps what is its own, in a shared folder."""
  return path if index == 0 else path / f'worker-{index}'


def place() -> tuple[int, int]:
  """Returns (this worker's number, workers) as TF_CONFIG has them.

  Raises:
    UserError: if TF_CONFIG is missing or wrong.
  """
  text = os.environ.get('TF_CONFIG')
  example = (
      '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
      '"task": {"type": "worker", "index": 0}}')
  if not text:
    raise errors.UserError(
        "train.distribution is 'multiworker' but TF_CONFIG is not set; start "
        'this machine\'s workers with dv3-cluster, or set on each host '
        f"TF_CONFIG='{example}'")
  try:
    config = json.loads(text)
    workers = [
        *config['cluster'].get('chief', []), *config['cluster']['worker']]
    task = config['task']
    index = int(task['index'])
    if task['type'] == 'worker':
      index += len(config['cluster'].get('chief', []))
    elif task['type'] != 'chief':
      raise KeyError(task['type'])
    workers[index]
  except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
    raise errors.UserError(
        f'TF_CONFIG is not as TensorFlow wants it ({error!r}); an example is '
        f"'{example}'") from error
  return index, len(workers)
