"""What a loop computes of variables alone, it computes once, before."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dv3 import distributions
from dv3 import registry
from dv3.nets import loops


def bodies(graph):
  """Returns the graphs of the bodies of all loops of a graph."""
  found = [
      graph._get_function(op.get_attr('body').name).graph
      for op in graph.get_operations() if op.type.endswith('While')]
  return found + [inner for body in found for inner in bodies(body)]


def casts(graph):
  """Returns the names of casts of variables, or of what holds all of one."""
  return [
      op.name for op in graph.get_operations() if op.type == 'Cast'
      and op.inputs[0].op.type in ('ReadVariableOp', 'Placeholder')
      and op.inputs[0].shape.rank == 2]


def repeat(step, x, length=3):
  with loops.looping():
    return tf.while_loop(
        lambda t, *_: t < length, lambda t, x: (t + 1, step(x)),
        (tf.constant(0), x), maximum_iterations=length)[1]


def test_a_variable_is_cast_once_and_has_its_gradient():
  variable = tf.Variable(np.eye(4, dtype=np.float32) / 2)
  x = tf.ones([2, 4], tf.bfloat16)

  @tf.function(autograph=False)
  def run():
    with tf.GradientTape() as tape:
      y = repeat(
          lambda x: x @ loops.cast(variable, tf.bfloat16)
          + x @ loops.cast(variable, 'bfloat16'), x)
    return y, tape.gradient(y, variable)

  graph = run.get_concrete_function().graph
  assert len(casts(graph)) == 1
  assert [casts(body) for body in bodies(graph)] == [[], []]
  y, gradient = run()
  np.testing.assert_array_equal(tf.cast(y, tf.float32), np.ones([2, 4]))
  np.testing.assert_array_equal(gradient, np.full([4, 4], 12.0))


def test_an_inner_loop_computes_nothing_that_the_outer_one_need_not():
  variable = tf.Variable(tf.ones([2, 2]))
  made = []

  def double():
    made.append(tf.compat.v1.get_default_graph())
    return 2.0 * variable

  @tf.function(autograph=False)
  def run(x):
    return repeat(lambda x: repeat(
        lambda x: x @ loops.once((variable.ref(), 'double'), double), x), x)

  graph = run.get_concrete_function(tf.TensorSpec([1, 2])).graph
  assert made == [graph]
  np.testing.assert_array_equal(run(tf.ones([1, 2])), [[4.0 ** 9] * 2])


def test_a_function_of_its_own_in_a_loop_keeps_its_casts():
  """It may be called from another graph, which has not what is before."""
  variable = tf.Variable(tf.ones([2, 2]))
  inner = tf.function(
      lambda x: x @ loops.cast(variable, tf.bfloat16), autograph=False)
  for _ in range(2):
    outer = tf.function(lambda x: repeat(inner, x), autograph=False)
    found = tf.cast(outer(tf.ones([1, 2], tf.bfloat16)), tf.float32)
    np.testing.assert_array_equal(found, [[8.0, 8.0]])
  inner(tf.ones([1, 2], tf.bfloat16))


def test_without_a_loop_it_is_what_make_returns():
  variable = tf.Variable(tf.ones([2, 2]))
  assert loops.cast(variable, tf.bfloat16).dtype == tf.bfloat16
  assert loops.once('key', lambda: 3) == 3
  assert loops.once('key', lambda: 4) == 4
  np.testing.assert_array_equal(repeat(
      lambda x: x @ loops.cast(variable, tf.float32), tf.ones([1, 2])),
      [[8.0, 8.0]])


@pytest.mark.parametrize('name', ['rssm', 'gru'])
def test_cores_cast_no_kernel_in_a_loop(name):
  keras.utils.set_random_seed(0)
  sizes = {'blocks': 4} if name == 'rssm' else {}
  core = registry.get('core', name)(
      token_size=5, action_size=2, dtype='mixed_bfloat16', deter=16, hidden=8,
      stoch=4, classes=4, **sizes)
  core.build()

  @tf.function(autograph=False)
  def run(tokens, action, is_first):
    rng = distributions.Rng(0)
    with tf.GradientTape() as tape:
      latents, _ = core.observe(
          tokens, action, is_first, core.initial(3), rng)
      total = sum(tf.reduce_sum(x) for x in latents)
    policy = lambda features, rng: tf.zeros([3, 2])
    with loops.looping():
      dream = core.imagine(policy, core.initial(3), 4, rng)
    return tape.gradient(total, core.trainable_variables), dream

  graph = run.get_concrete_function(
      tf.TensorSpec([3, 6, 5]), tf.TensorSpec([3, 6, 2]),
      tf.TensorSpec([3, 6], tf.bool)).graph
  found = bodies(graph)
  assert len(found) == 3  # Filtering, its gradient, imagination.
  assert casts(graph)
  kernels = {
      tuple(v.shape) for v in core.trainable_variables if v.shape.rank > 1}
  assert not [
      op.name for body in found for op in body.get_operations()
      if op.type == 'Cast' and tuple(op.inputs[0].shape) in kernels]
