"""An evaluation that takes over what another one computed."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3.nets import recall

ROWS, PARTS = 6, 3


def normal(seed, *shape):
  return tf.constant(
      np.random.default_rng(seed).normal(size=shape), tf.float32)


def layer(x, kernel):
  """tanh of products of both shapes that are kept."""
  y = recall.kept(x @ kernel)
  blocks = tf.stack([y, 2.0 * y])
  return tf.tanh(recall.kept(blocks, 1)[1])


@pytest.mark.parametrize('compiled', [False, True])
def test_values_are_the_kept_ones_and_gradients_those_of_the_products(compiled):
  kernel, x, other = normal(0, 4, 5), normal(1, ROWS, 4), normal(2, 2, 4)

  @tf.function(autograph=False, jit_compile=compiled)
  def run(number):
    results = recall.Kept()
    with results.keeping():
      everything = layer(x, kernel)
    with tf.GradientTape() as tape:
      tape.watch(other)
      with results.recalling(number, PARTS):
        part = layer(other, kernel)
    return everything, part, tape.gradient(part, other)

  for number in range(PARTS):
    everything, part, gradient = run(tf.constant(number))
    want = everything[2 * number: 2 * number + 2]
    np.testing.assert_allclose(part, want, atol=1e-6)
    np.testing.assert_allclose(
        gradient, 2.0 * (1.0 - want ** 2) @ tf.transpose(kernel), rtol=1e-4,
        atol=1e-5)


@pytest.mark.parametrize('compiled', [False, True])
def test_a_branch_keeps_and_recalls_nothing(compiled):
  kernel, x, other = normal(0, 4, 5), normal(1, ROWS, 4), normal(2, 2, 4)

  def branching(x, choice):
    return recall.kept(x @ kernel) + tf.cond(
        choice, lambda: recall.kept(tf.exp(x) @ kernel), lambda: x @ kernel)

  @tf.function(autograph=False, jit_compile=compiled)
  def run(number, choice):
    results = recall.Kept()
    with results.keeping():
      everything = branching(x, choice)
    with results.recalling(number, PARTS):
      return everything, branching(other, choice)

  for choice in (True, False):
    everything, part = run(tf.constant(1), tf.constant(choice))
    act = tf.exp if choice else tf.identity
    np.testing.assert_allclose(
        everything, x @ kernel + act(x) @ kernel, rtol=1e-5)
    # The first product is the kept one, that of the branch its own.
    np.testing.assert_allclose(
        part, x[2:4] @ kernel + act(other) @ kernel, rtol=1e-5)


def test_nothing_is_kept_outside_of_its_contexts():
  x = normal(0, ROWS, 4)
  assert recall.kept(x) is x
  results = recall.Kept()
  with results.keeping(), recall.paused():
    assert recall.kept(x) is x
  with results.recalling(tf.constant(0), PARTS):  # As nothing was kept.
    pass


def test_results_without_rows_of_the_batch_are_an_error():
  results = recall.Kept()
  with results.keeping():
    recall.kept(normal(0, 1, 4))
  with pytest.raises(errors.UserError, match='first axis is not the batch'):
    with results.recalling(tf.constant(0), PARTS):
      recall.kept(normal(0, 1, 4))


@pytest.mark.parametrize('again', [
    lambda x: x,
    lambda x: recall.kept(recall.kept(x)),
    lambda x: recall.kept(x, 1),
    lambda x: recall.kept(x[:, :2]),
    lambda x: recall.kept(x[:1]),
    lambda x: recall.kept(tf.cast(x, tf.bfloat16))],
    ids=['fewer', 'more', 'axis', 'shape', 'rows', 'dtype'])
def test_another_evaluation_than_the_kept_one_is_an_error(again):
  results = recall.Kept()
  with results.keeping():
    recall.kept(normal(0, ROWS, 4))
  with pytest.raises(errors.UserError, match='RecurrentCore'):
    with results.recalling(tf.constant(0), PARTS):
      again(normal(1, 2, 4))
