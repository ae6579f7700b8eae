"""Checkpoints are whole or not there."""

import numpy as np
import pytest

from dv3 import errors
from dv3.training import checkpoints


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
  assert [x.name for x in points.all()] == [
      'step-000000000020', 'step-000000000300']
  assert (points.latest() / 'inner' / 'b.txt').read_text() == '300300'


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'remove', 'manifest'])
def test_damage_is_found_and_the_older_one_is_used(tmp_path, damage):
  points = checkpoints.Checkpoints(tmp_path)
  points.save(1, write('one'))
  newest = points.save(2, write('two'))
  path = newest / ('manifest.json' if damage == 'manifest' else 'a.txt')
  if damage == 'flip':
    path.write_text('twp')
  elif damage == 'remove':
    path.unlink()
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
  (tmp_path / 'writing-000000000002').mkdir()
  assert points.latest().name == 'step-000000000001'
  points.save(2, write('two'))
  assert points.latest().name == 'step-000000000002'


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
