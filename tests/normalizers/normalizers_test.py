"""Normalizers: their formulas, and what is shared by all of them."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.normalizers import meanstd
from dv3.normalizers import none
from dv3.normalizers import percentile

CLASSES = {
    'percentile': percentile.PercentileNormalizer,
    'meanstd': meanstd.MeanStdNormalizer, 'none': none.NoNormalizer}


def batches(count=5, shape=(7, 3)):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) * 3 for _ in range(count)]


@pytest.mark.parametrize('size', [1, 2, 3, 20, 21, 1000])
@pytest.mark.parametrize('percent', [0.0, 5.0, 37.5, 100.0])
def test_percentiles_are_those_of_numpy(size, percent):
  values = np.random.default_rng(size).normal(size=size).astype(np.float32)
  normalizer = percentile.PercentileNormalizer(low=percent, high=95.0)
  np.testing.assert_allclose(
      normalizer.statistics(tf.constant(values)),
      np.percentile(values, [percent, 95.0]), rtol=1e-5, atol=1e-6)


def test_averages_move_and_start_at_zero():
  normalizer = percentile.PercentileNormalizer(
      rate=0.25, low=10.0, high=80.0, limit=0.5)
  normalizer.build()
  low = high = 0.0
  for values in batches():
    now = np.percentile(values, [10, 80])
    low, high = 0.75 * low + 0.25 * now[0], 0.75 * high + 0.25 * now[1]
    offset, scale = normalizer.update(values)
    np.testing.assert_allclose(offset, low, rtol=1e-5)
    np.testing.assert_allclose(scale, max(0.5, high - low), rtol=1e-5)


@pytest.mark.parametrize('debias', [False, True])
def test_mean_and_deviation(debias):
  normalizer = meanstd.MeanStdNormalizer(rate=0.1, limit=0.5, debias=debias)
  normalizer.build()
  mean = square = weight = 0.0
  for values in batches():
    mean = 0.9 * mean + 0.1 * values.mean()
    square = 0.9 * square + 0.1 * np.square(values).mean()
    weight = 0.9 * weight + 0.1
    by = weight if debias else 1.0
    offset, scale = normalizer.update(values)
    np.testing.assert_allclose(offset, mean / by, rtol=1e-4)
    expected = np.sqrt(max(0, square / by - (mean / by) ** 2))
    np.testing.assert_allclose(scale, max(0.5, expected), rtol=1e-4)


def test_debiased_first_update_is_the_batch():
  values, = batches(1)
  normalizer = percentile.PercentileNormalizer(debias=True)
  normalizer.build()
  np.testing.assert_array_equal(normalizer.read(), (0.0, 1.0))
  low, high = np.percentile(values, [5, 95])
  np.testing.assert_allclose(
      normalizer.update(values), (low, high - low), rtol=1e-4)


def test_none_is_the_identity():
  normalizer = none.NoNormalizer()
  normalizer.build()
  np.testing.assert_array_equal(normalizer.update([5.0, 7.0]), (0.0, 1.0))
  assert not normalizer.variables


@pytest.mark.parametrize('name', CLASSES)
def test_contract(name):
  cls = registry.get('normalizer', name)
  assert cls is CLASSES[name]
  assert issubclass(cls, interfaces.Normalizer)
  eager, compiled = cls(), cls()
  eager.build()
  compiled.build()
  assert not eager.trainable_variables
  function = tf.function(compiled.update, autograph=False, jit_compile=True)
  for values in batches():
    results = function(values)
    # Any float type is taken in, results are float32 scalars.
    for result in eager.update(tf.constant(values, tf.float64)):
      assert (result.shape, result.dtype) == ((), tf.float32)
    np.testing.assert_allclose(results, eager.read(), rtol=1e-5)


def test_no_gradient_flows_through():
  normalizer = percentile.PercentileNormalizer(limit=0.0)
  normalizer.build()
  values = tf.constant(batches(1)[0])
  with tf.GradientTape() as tape:
    tape.watch(values)
    _, scale = normalizer.update(values)
  assert tape.gradient(scale, values) is None


def test_checkpoint(tmp_path):
  one, other = (percentile.PercentileNormalizer(debias=True) for _ in '12')
  one.build()
  other.build()
  one.update(batches(1)[0])
  path = tf.train.Checkpoint(x=one).write(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(x=other).read(path).assert_consumed()
  np.testing.assert_array_equal(one.read(), other.read())


def test_unbuilt():
  for name in ('percentile', 'meanstd'):
    with pytest.raises(errors.UserError, match='call its build'):
      CLASSES[name]().update([1.0])
