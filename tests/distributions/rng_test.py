"""Draws do not depend on how a batch is split, and have the right law."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3.distributions import rng as rng_lib

COUNT = 20_000


@pytest.mark.parametrize('shape', [(), (3,), (4,), (2, 5)])
def test_shards_draw_what_the_whole_batch_draws(shape):
  rng = rng_lib.Rng(7).fold('use').at(3)
  whole = rng.uniform([12, *shape])
  shards = [rng.starting(i).uniform([4, *shape]) for i in (0, 4, 8)]
  np.testing.assert_array_equal(whole, tf.concat(shards, 0))


def test_shards_agree_after_examples_became_rows():
  rng = rng_lib.Rng(7).at(1)
  shard = rng.starting(2).rows(5)
  np.testing.assert_array_equal(
      rng.rows(5).uniform([20, 3])[10:], shard.uniform([10, 3]))
  # The last numbers of an array, which fill no vector register, are computed
  # by other instructions on some processors: one unit in the last place.
  np.testing.assert_allclose(
      rng.rows(5).normal([20, 3])[10:], shard.normal([10, 3]), rtol=3e-7)


@pytest.mark.parametrize('jit', [False, True])
def test_eager_and_compiled_draws_are_the_same_bits(jit):
  def draw(seed, offset, step):
    rng = rng_lib.Rng(seed).fold('x').starting(offset).at(step)
    return rng.uniform([6, 3])
  arguments = [tf.constant(x, tf.int64) for x in (5, 2, 9)]
  compiled = tf.function(draw, jit_compile=jit, autograph=False)
  np.testing.assert_array_equal(draw(*arguments), compiled(*arguments))


def test_uses_steps_seeds_and_examples_differ():
  rng = rng_lib.Rng(0)
  keys = [
      rng, rng.fold('a'), rng.fold('b'), rng.fold('a').fold('b'),
      rng.fold('b').fold('a'), rng.fold(0), rng.fold(1), rng.at(1),
      rng_lib.Rng(1)]
  draws = np.stack([key.uniform([50]) for key in keys])
  assert len(np.unique(draws)) == draws.size
  correlation = np.corrcoef(
      np.stack([key.uniform([COUNT]) for key in keys]))
  off_diagonal = correlation[~np.eye(len(keys), dtype=bool)]
  # The standard error of a correlation of independent draws is 1 / sqrt(n).
  assert np.abs(off_diagonal).max() < 5 / np.sqrt(COUNT)


def test_a_name_and_a_tensor_fold_like_themselves():
  rng = rng_lib.Rng(0)
  np.testing.assert_array_equal(
      rng.fold(4).uniform([8]), rng.fold(tf.constant(4)).uniform([8]))


def test_uniform_numbers_fill_the_open_interval_evenly():
  values = np.asarray(rng_lib.Rng(11).uniform([COUNT]))
  assert values.min() > 0 and values.max() < 1
  counts = np.histogram(values, 20, (0, 1))[0]
  assert _chi_square(counts, np.full(20, 1 / 20)) < 43.8  # 99.9 %, 19 d.o.f.


def test_normal_numbers_have_the_moments_of_a_standard_normal():
  values = np.asarray(rng_lib.Rng(12).normal([COUNT]), np.float64)
  error = 5 / np.sqrt(COUNT)
  assert abs(values.mean()) < error
  assert abs(values.var() - 1) < error * np.sqrt(2)
  assert abs((values ** 3).mean()) < error * np.sqrt(15)
  assert abs((values ** 4).mean() - 3) < error * np.sqrt(96)


@pytest.mark.parametrize('unimix', [0.0, 0.2])
def test_one_hot_draws_follow_the_mixed_probabilities(unimix):
  weights = np.array([0.5, 0.3, 0.15, 0.05])
  logits = np.broadcast_to(np.log(weights), (COUNT, 1, 4)).astype(np.float32)
  sample = rng_lib.Rng(13).sample(distributions.OneHot(logits, unimix))
  np.testing.assert_array_equal(np.sum(sample, -1), 1)
  expected = (1 - unimix) * weights + unimix / 4
  counts = np.sum(sample, (0, 1))
  assert _chi_square(counts, expected) < 16.3  # 99.9 %, 3 d.o.f.


def test_a_class_without_probability_is_never_drawn():
  logits = np.broadcast_to(
      np.float32([-1e9, 0, 0, -1e9]), (COUNT, 1, 4))
  sample = rng_lib.Rng(14).sample(distributions.OneHot(logits))
  counts = np.sum(sample, (0, 1))
  assert counts[0] == counts[3] == 0


def _chi_square(counts, probabilities):
  """Pearson's statistic of counts against probabilities."""
  expected = probabilities * counts.sum()
  return np.sum((counts - expected) ** 2 / expected)


def test_uniform_numbers_leave_out_0_and_1():
  # 24 bits and a half round up to 1, whose normal is infinite: once in 1e7
  # draws, which ended a run on Pendulum.
  bits = tf.constant([0, 1, 2 ** 31, 2 ** 32 - 257, 2 ** 32 - 1], tf.uint32)
  numbers = rng_lib.open_unit(bits).numpy()
  assert numbers.min() > 0.0 and numbers.max() < 1.0
  assert np.isfinite(tf.math.ndtri(numbers)).all()
