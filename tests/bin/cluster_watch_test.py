"""What dv3-cluster does with workers that end."""

import pytest
from absl import flags

from dv3.bin import cluster


class Workers:
  """Workers that end with given codes, and stay away if they are restarted."""

  def __init__(self, codes):
    self._codes = codes
    self.restarted, self.killed = [], False

  def codes(self):
    assert not self.restarted, 'a restarted worker is waited for'
    return self._codes

  def restart(self, index):
    self.restarted.append(index)

  def signal(self, number):
    del number
    self.killed = True


@pytest.mark.parametrize('codes', [[0, -11], [-11, 0], [0, 3, None]])
def test_a_worker_is_not_restarted_for_a_run_that_is_over(codes, capsys):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['test'])
  workers = Workers(codes)
  assert cluster._watch(workers, []) == 1
  assert workers.killed
  assert 'all were stopped' in capsys.readouterr().err


def test_all_ended_well():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['test'])
  assert cluster._watch(Workers([0, 0]), []) == 0
