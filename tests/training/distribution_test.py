"""What a strategy is called, and a GPU that is there and not used."""

from unittest import mock

import pytest
import tensorflow as tf

from dv3 import errors
from dv3.nets import xla
from dv3.training import distribution


def strategy(kind=tf.distribute.Strategy, replicas=1):
  result = mock.Mock(spec=kind)
  result.num_replicas_in_sync = replicas
  return result


@pytest.mark.parametrize('made, gpu, expected', [
    (strategy(), False, 'CPU'), (strategy(replicas=2), False, '2 x CPU'),
    (strategy(replicas=4), True, '4 x GPU'),
    (strategy(tf.distribute.TPUStrategy, 8), False, '8 x TPU')])
def test_devices_are_named(made, gpu, expected, monkeypatch):
  monkeypatch.setattr(xla, 'has_gpu', lambda: gpu)
  assert distribution.describe(made) == expected


def test_a_batch_that_replicas_do_not_divide_is_refused():
  made = strategy(tf.distribute.MirroredStrategy, 2)
  made.extended = mock.Mock(worker_devices=['a', 'b'])
  distribution.check_divides(made, 4)
  distribution.check_divides(tf.distribute.get_strategy(), 3)
  with pytest.raises(errors.UserError, match='3 sequences.*a multiple of 2'):
    distribution.check_divides(made, 3)


@pytest.mark.parametrize('made, gpu, driver, hidden, warns', [
    (strategy(), False, True, False, True),
    (strategy(), True, True, False, False),
    (strategy(), False, False, False, False),
    (strategy(), False, True, True, False),
    (strategy(tf.distribute.TPUStrategy), False, True, False, False)])
def test_a_gpu_that_is_not_seen(
    made, gpu, driver, hidden, warns, monkeypatch, tmp_path, caplog):
  path = tmp_path / 'version'
  if driver:
    path.write_text('NVRM')
  monkeypatch.setattr(distribution, '_NVIDIA_DRIVER', str(path))
  monkeypatch.setattr(xla, 'has_gpu', lambda: gpu)
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  if hidden:
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
  distribution.warn_of_unseen_gpu(made)
  assert ('TensorFlow finds no GPU' in caplog.text) == warns
