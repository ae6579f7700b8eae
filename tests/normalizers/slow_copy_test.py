"""The slow copy of a part."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3.normalizers import slow


def part(units=2, value=None):
  result = keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(1)])
  result.build([None, 3])
  if value is not None:
    for variable in result.variables:
      variable.assign(tf.fill(variable.shape, value))
  return result


def values(of):
  return np.concatenate([v.numpy().reshape(-1) for v in of.variables])


def make(rate, every, compiled=False):
  fast, other = part(value=1.0), part()
  copy = slow.SlowCopy(fast, other, rate=rate, every=every)
  copy.build()
  np.testing.assert_array_equal(values(other), values(fast))
  update = tf.function(copy.update, autograph=False, jit_compile=compiled)
  return fast, other, update


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('rate', [0.02, 1.0])
@pytest.mark.parametrize('every', [1, 3])
def test_moves(rate, every, compiled):
  fast, other, update = make(rate, every, compiled)
  expected = 1.0
  for step in range(7):
    for variable in fast.variables:
      variable.assign(tf.fill(variable.shape, float(step)))
    update()
    if step % every == 0:
      expected = rate * step + (1 - rate) * expected
    np.testing.assert_allclose(values(other), expected, rtol=1e-5, atol=1e-7)


def test_hard_copy_forgets_what_is_not_finite():
  fast, other, update = make(1.0, 1)
  other.variables[0].assign(tf.fill(other.variables[0].shape, np.inf))
  update()
  np.testing.assert_array_equal(values(other), values(fast))


def test_checkpoint_holds_copy_and_count(tmp_path):
  copies = [
      slow.SlowCopy(part(value=3.0), part(), every=3) for _ in range(2)]
  for copy in copies:
    copy.build()
  copies[0].update()
  path = tf.train.Checkpoint(x=copies[0]).write(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(x=copies[1]).read(path).assert_consumed()
  assert copies[1].count.numpy() == 1
  np.testing.assert_array_equal(
      values(copies[1].slow), values(copies[0].slow))


@pytest.mark.parametrize('fast, other, message', [
    (lambda: part(2), lambda: part(3), 'same specs'),
    (lambda: part(2), lambda: keras.layers.Dense(1), 'one class'),
    (lambda: keras.layers.Dense(1), lambda: keras.layers.Dense(1), 'built'),
])
def test_parts_that_differ_are_refused(fast, other, message):
  with pytest.raises(ValueError, match=message):
    slow.SlowCopy(fast(), other()).build()


def test_unbuilt():
  with pytest.raises(errors.UserError, match='call its build'):
    slow.SlowCopy(part(), part()).update()
