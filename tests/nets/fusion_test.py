"""Compiled pieces of a graph."""

import pytest
import tensorflow as tf

from dv3.nets import fusion
from dv3.nets import pooling


@pytest.mark.parametrize('piece', [
    lambda x: fusion.fused(lambda x: tf.nn.silu(x * x), x),
    pooling.max_pool2], ids=['fused', 'max_pool2'])
def test_a_persistent_tape_does_not_make_pieces_keep_what_nobody_reads(piece):
  @tf.function(autograph=False)
  def run(x):
    with tf.GradientTape(persistent=True) as tape, fusion.fusing():
      tape.watch(x)
      y = piece(x)
    return y, tape.gradient(y, x)

  graph = run.get_concrete_function(tf.TensorSpec([2, 4, 4, 3])).graph
  calls = [op for op in graph.get_operations() if 'PartitionedCall' in op.type]
  read = {x.ref() for op in graph.get_operations() for x in op.inputs}
  read |= {x.ref() for x in graph.outputs}
  assert len(calls) == 2
  assert [x.name for op in calls for x in op.outputs if x.ref() not in read
          ] == []
  x = tf.random.stateless_normal([2, 4, 4, 3], [1, 2])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = piece(x)
  got, gradient = run(x)
  tf.debugging.assert_near(got, y)
  tf.debugging.assert_near(gradient, tape.gradient(y, x))
