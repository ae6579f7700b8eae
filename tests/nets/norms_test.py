"""Norms of long rows as products, for XLA on a CPU, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import registry
from dv3 import types
from dv3.nets import norms
from dv3.nets import xla


def rms(x, scale):
  return x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + 1e-4) * scale


def layer(x, scale, shift):
  mean = x.mean(-1, keepdims=True)
  variance = x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(variance + 1e-3) * scale + shift


def slopes(function, arguments, upstream, step=1e-6):
  """Returns gradients of sum(function * upstream), by central differences."""
  found = []
  for i, argument in enumerate(arguments):
    slope = np.zeros_like(argument)
    for index in np.ndindex(argument.shape):
      ends = []
      for sign in (1, -1):
        moved = [x.copy() for x in arguments]
        moved[i][index] += sign * step
        ends.append(np.sum(function(*moved) * upstream))
      slope[index] = (ends[0] - ends[1]) / (2 * step)
    found.append(slope)
  return found


@pytest.mark.parametrize('kind', ['rms', 'layer', 'none'])
def test_frozen_parts_compute_the_same(kind):
  rng = np.random.default_rng(0)
  obs = {
      'image': tf.constant(rng.integers(0, 256, (2, 16, 16, 3)), tf.uint8),
      'vector': tf.constant(rng.normal(size=(2, 3)), tf.float32)}
  for name, key, kwargs in (
      ('mlp', 'vector', {'units': 8, 'layers': 2}),
      ('cnn', 'image', {'depth': 4, 'multipliers': (2, 2)})):
    spec = types.Spec(tuple(obs[key].shape[1:]), obs[key].dtype.name)
    part = registry.get('encoder', name)(
        obs_spec={key: spec}, norm=kind, **kwargs)
    part.build()
    expected = part(obs)
    part.trainable = False
    assert part.trainable_variables == []
    np.testing.assert_array_equal(part(obs), expected)


@pytest.mark.parametrize('size', [norms.LONG + 8, 2 * norms.LONG])
@pytest.mark.parametrize('kind, function', [('rms', rms), ('layer', layer)])
def test_long_rows(kind, function, size):
  rng = np.random.default_rng(0)
  x, upstream = rng.normal(size=(2, 3, size))
  norm = norms.make(kind)
  norm.build(x.shape)
  arguments = [x] + [rng.normal(size=size) for _ in norm.trainable_variables]
  means = []

  @xla.compiled
  def run(*tensors):
    with tf.GradientTape() as tape:
      tape.watch(tensors)
      y = norm.compute(*tensors)
    means.extend(
        op for op in tf.compat.v1.get_default_graph().get_operations()
        if op.type == 'MatMul')
    return y, tape.gradient(
        y, tensors, output_gradients=tf.constant(upstream, tf.float32))

  y, gradients = run(*(tf.constant(a, tf.float32) for a in arguments))
  assert means
  np.testing.assert_allclose(y, function(*arguments), rtol=1e-5, atol=1e-5)
  expected = slopes(function, arguments, upstream)
  for found, slope in zip(gradients, expected, strict=True):
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)


def test_layer_norm_of_equal_numbers_passes_no_number_that_is_not_finite():
  norm = norms.make('layer')
  norm.build([None, 64])

  @xla.compiled
  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = norm.compute(x, *norm.trainable_variables)
    return y, tape.gradient(y, x)

  y, gradient = run(tf.fill([4, 64], 1000.1))
  assert np.isfinite(y).all() and np.isfinite(gradient).all()
  # Equal steps of all numbers change nothing.
  np.testing.assert_allclose(np.sum(gradient, -1), 0.0, atol=1e-3)
