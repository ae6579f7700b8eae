"""Env steps and episodes are counted over all workers."""

import numpy as np

from dv3 import types
from dv3.training import cluster


class Workers:
  """Stands for a cluster of two, whose workers do the same."""

  count = 2

  def __init__(self, index):
    self.index = index

  def gather(self, numbers):
    return np.tile(np.array(numbers, np.float64), (2, 1))


def episode(score, worker, **extras):
  return types.Episode(
      step=0, score=score, length=1, worker=worker, truncated=True,
      extras=extras)


def test_episodes_of_all_workers_come_with_their_own_numbers():
  tally = cluster.Tally(Workers(1), num_envs=2)
  episodes, ready = tally.add(2, [episode(3.0, 1, log=5.0)], True)
  assert ready
  assert (tally.env_steps, tally.earned) == (4, 4)
  assert [(x.score, x.worker, x.step) for x in episodes] == [
      (3.0, 1, 4), (3.0, 3, 4)]
  assert [x.extras for x in episodes] == [{}, {'log': 5.0}]


def test_episodes_that_a_resume_cut_come_beside_those_that_end_at_once():
  tally = cluster.Tally(Workers(0), num_envs=2)
  ended = [episode(float(i), i % 2) for i in range(4)]
  episodes, _ = tally.add(2, ended, True)
  assert [x.score for x in episodes] == [0.0, 1.0, 2.0, 3.0] * 2


def test_more_episodes_than_a_round_has_room_for_come_with_the_next():
  tally = cluster.Tally(Workers(0), num_envs=1)
  given = [episode(float(i), 0) for i in range(3)]
  assert [x.score for x in tally.add(1, given, True)[0]] == [0.0, 1.0] * 2
  assert [x.score for x in tally.add(1, [], True)[0]] == [2.0] * 2


def test_a_worker_alone_keeps_its_episodes():
  alone = Workers(0)
  alone.count = 1
  tally = cluster.Tally(alone, num_envs=1)
  ended = [episode(1.0, 0, log=2.0)]
  assert tally.add(3, ended, False) == (ended, False)
  assert tally.env_steps == 3
