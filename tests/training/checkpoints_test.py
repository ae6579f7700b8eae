"""Checkpoints are whole or not there."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3.training import checkpoints
from dv3.training import run


def write(text):
  def inner(folder):
    (folder / 'a.txt').write_text(text)
    (folder / 'inner').mkdir()
    (folder / 'inner' / 'b.txt').write_text(text * 2)
  return inner


def test_newest_is_found_and_old_ones_are_forgotten(tmp_path):
  points = checkpoints.Checkpoints(tmp_path, keep=2)
  assert points.latest() is None
  for step in (1, 20, 300):
    points.save(step, write(str(step)))
  points.settle()
  assert [x.name for x in points.all()] == [
      'step-000000000020', 'step-000000000300']
  assert (points.latest() / 'inner' / 'b.txt').read_text() == '300300'


def test_a_step_saved_twice_counts_once(tmp_path):
  points = checkpoints.Checkpoints(tmp_path, keep=2)
  for step, text in ((100, 'a'), (200, 'b'), (200, 'c')):
    points.save(step, write(text))
  points.settle()
  assert [x.name for x in points.all()] == [
      'step-000000000100', 'step-000000000200-1']
  assert (points.latest() / 'a.txt').read_text() == 'c'


@pytest.mark.parametrize('damage', [
    'flip', 'truncate', 'remove', 'unreadable', 'manifest'])
def test_damage_is_found_and_the_older_one_is_used(tmp_path, damage):
  points = checkpoints.Checkpoints(tmp_path)
  points.save(1, write('one'))
  points.save(2, write('two'))
  points.settle()
  newest = points.all()[-1]
  path = newest / ('manifest.json' if damage == 'manifest' else 'a.txt')
  if damage == 'flip':
    path.write_text('twp')
  elif damage == 'remove':
    path.unlink()
  elif damage == 'unreadable':  # Its reading fails as on a bad disk.
    path.unlink()
    path.symlink_to('/proc/self/mem')
  else:
    path.write_text(path.read_text()[:1])
  assert checkpoints.find_damage(newest) is not None
  assert (points.latest() / 'a.txt').read_text() == 'one'


def test_interrupted_write_leaves_the_old_one(tmp_path):
  points = checkpoints.Checkpoints(tmp_path)
  points.save(1, write('one'))
  def fail(folder):
    (folder / 'a.txt').write_text('half')
    raise OSError(28, 'No space left on device')
  with pytest.raises(errors.UserError, match='No space left.*free space'):
    points.save(2, fail)
  assert [x.name for x in points.directory.iterdir()] == ['step-000000000001']
  assert (points.latest() / 'a.txt').read_text() == 'one'


def test_leftover_of_a_killed_process_is_ignored(tmp_path):
  points = checkpoints.Checkpoints(tmp_path)
  points.save(1, write('one'))
  points.settle()
  (tmp_path / 'writing-000000000002').mkdir()
  assert points.latest().name == 'step-000000000001'
  points.save(2, write('two'))
  points.settle()
  assert points.latest().name == 'step-000000000002'


def test_the_rest_is_written_while_the_caller_goes_on(tmp_path):
  points = checkpoints.Checkpoints(tmp_path)
  go, order = threading.Event(), []
  def save(folder):
    write('now')(folder)
    def rest():
      assert go.wait(60)
      (folder / 'later.txt').write_text('later')
    return rest
  points.save(1, save, then=lambda: order.append(points.latest().name))
  assert points.writing and points.latest() is None and not order
  go.set()
  points.settle()
  assert not points.writing and order == ['step-000000000001']
  assert (points.latest() / 'later.txt').read_text() == 'later'
  assert 'later.txt' in (points.latest() / 'manifest.json').read_text()


def test_a_checkpoint_begins_early_enough_to_be_whole_in_time(tmp_path, caplog):
  points = checkpoints.Checkpoints(tmp_path)
  assert points.lead(60.0) == 0.0
  points.seconds = 4.0
  assert points.lead(60.0) == 4.0
  now = [0.0]
  clock = run.Clock(60.0, lambda: now[0])
  now[0] = 55.0
  assert not clock.due(lead=points.lead(60.0))
  now[0] = 56.5
  assert clock.due(lead=points.lead(60.0))
  assert not caplog.records
  points.seconds = 50.0
  assert [points.lead(60.0) for _ in range(2)] == [30.0, 30.0]
  record, = caplog.records
  assert 'takes 50 s, of the 60 s of train.save_every' in record.getMessage()


def test_an_error_in_the_thread_is_raised_at_the_next_look(tmp_path):
  points = checkpoints.Checkpoints(tmp_path)
  points.save(1, write('one'))
  def full():
    raise OSError(28, 'No space left on device')
  def save(folder):
    write('two')(folder)
    return full
  points.save(2, save)
  points.close()
  with pytest.raises(errors.UserError, match='No space left.*free space'):
    assert points.writing
  assert [x.name for x in points.directory.iterdir()] == ['step-000000000001']


@pytest.mark.parametrize(
    'name', ['lr[1e-4]', 'back\\slash', 'sweep,lr=[1]', 'a b', 'x{1}', '*?'])
def test_variables_of_any_folder_are_found(tmp_path, name):
  folder = tmp_path / name / 'step-1'
  folder.mkdir(parents=True)
  module = tf.Module()
  module.kernel = tf.Variable([1.0, 2.0])
  checkpoints.write_variables(folder, module=module)
  module.kernel.assign([0.0, 0.0])
  checkpoints.read_variables(folder, module=module)
  np.testing.assert_array_equal(module.kernel, [1.0, 2.0])


def test_state_round_trip_without_pickle(tmp_path):
  state = {
      'count': 3, 'share': 0.25, 'text': 'x', 'none': None,
      'nested': {'array': np.arange(6, dtype=np.uint8).reshape(2, 3),
                 'list': [1, {'deep': np.float32(0.5)}]},
      'latent/deter': np.zeros((2, 0), np.float32)}
  checkpoints.write_state(tmp_path, 'state', state)
  found = checkpoints.read_state(tmp_path, 'state')
  assert found['count'] == 3 and found['none'] is None
  np.testing.assert_array_equal(
      found['nested']['array'], state['nested']['array'])
  assert found['nested']['array'].dtype == np.uint8
  assert found['nested']['list'][1]['deep'] == 0.5
  assert found['latent/deter'].shape == (2, 0)
  with pytest.raises(TypeError, match='pickled'):
    checkpoints.write_state(tmp_path, 'bad', {'x': np.array([{}])})


def test_the_last_of_a_step_is_the_newest(tmp_path):
  points = checkpoints.Checkpoints(tmp_path / 'checkpoints')
  points.directory.mkdir()
  (points.directory / 'step-000000000005-1').mkdir()
  points.save(5, lambda folder: (folder / 'x').touch())
  points.close()
  assert [x.name for x in points.all()] == ['step-000000000005-2']
