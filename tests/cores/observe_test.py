"""Filtering a sequence is filtering its steps, gradients included."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dv3 import distributions
from dv3 import registry
from dv3.nets import picking
from dv3.nets import xla

B, T, E, A = 3, 6, 5, 2
CORES = {
    'rssm': {
        'deter': 16, 'hidden': 8, 'stoch': 4, 'classes': 4, 'blocks': 4},
    'gru': {'deter': 16, 'hidden': 8, 'stoch': 4, 'classes': 4},
    'rllib_gru': {'deter': 16, 'hidden': 8, 'stoch': 4, 'classes': 4}}
# Rows that are long enough for norms by products, and latents of which all
# steps at once pick rows while one step does not.
WIDE = {'hidden': 40, 'stoch': 8, 'classes': 32}


def make(name, dtype, **sizes):
  keras.utils.set_random_seed(0)
  core = registry.get('core', name)(
      token_size=E, action_size=A, dtype=dtype, **{**CORES[name], **sizes})
  core.build()
  return core


def step_by_step(core, tokens, action, is_first, state, rng):
  """The definition: one `observe_step` after another, under one tape."""
  found = []
  for t in range(T):
    latents, state = core.observe_step(
        tokens[:, t], action[:, t], is_first[:, t], state,
        rng.fold('observe').at(t))
    found.append(latents)
  return tf.nest.map_structure(lambda *x: tf.stack(x, 1), *found), state


def at_once(core, tokens, action, is_first, state, rng):
  return core.observe(tokens, action, is_first, state, rng.fold('observe'))


def graph(run):
  return tf.function(run, autograph=False)


def compiled(run):
  return tf.function(run, autograph=False, jit_compile=True)


# Shares of the largest value and of a gradient's largest number.
ERRORS = {'float32': (1e-5, 1e-4), 'bfloat16': (1e-2, 3e-2)}


@pytest.mark.parametrize('name, compiler, sizes, dtype', [
    *((name, graph, {}, 'float32') for name in sorted(CORES)),
    *((name, compiled, {}, 'float32') for name in ('rssm', 'gru')),
    *((name, xla.compiled, WIDE, dtype) for name in ('rssm', 'gru')
      for dtype in ERRORS),
    ('rllib_gru', xla.compiled, {}, 'float32')])
def test_values_and_gradients(name, compiler, sizes, dtype, monkeypatch):
  monkeypatch.setattr(picking, 'LEAST_ROWS', B + 1)
  core = make(name, dtype, **sizes)
  rng = np.random.default_rng(0)
  normal = lambda *shape: tf.constant(rng.normal(size=shape), tf.float32)
  tokens, action = normal(B, T, E), normal(B, T, A)
  is_first = tf.constant(rng.random((B, T)) < 0.3)
  groups = core.stoch, core.classes
  stoch = tf.one_hot(rng.integers(0, core.classes, (B, core.stoch)), groups[1])
  state = type(core.initial(B))(normal(B, 16), stoch)
  # Every result counts, each with a weight of its own.
  probe = [normal(B, T, 16), normal(B, T, *groups), normal(B, T, *groups),
           normal(B, 16), normal(B, *groups)]

  def run(filter_):
    sources = [tokens, action, *state, *core.trainable_variables]
    with tf.GradientTape() as tape:
      tape.watch([tokens, action, *state])
      results = filter_(
          core, tokens, action, is_first, state, distributions.Rng(0))
      flat = tf.nest.flatten(results)
      total = tf.add_n([
          tf.reduce_sum(tf.cast(a, tf.float32) * b)
          for a, b in zip(flat, probe, strict=True)])
    return flat, tape.gradient(
        total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)

  # Rounded like what it is compared with, or other classes would be drawn.
  definition = graph if dtype == 'float32' else compiler
  values, gradients = definition(functools.partial(run, step_by_step))()
  found, found_gradients = compiler(functools.partial(run, at_once))()
  of_values, of_gradients = ERRORS[dtype]
  for a, b in zip(values, found, strict=True):
    np.testing.assert_allclose(
        np.asarray(b, np.float32), np.asarray(a, np.float32),
        rtol=of_values, atol=of_values)
  names = ['tokens', 'action', 'deter', 'stoch', *(
      v.name for v in core.trainable_variables)]
  for what, a, b in zip(names, gradients, found_gradients, strict=True):
    np.testing.assert_allclose(
        b, a, rtol=of_gradients,
        atol=of_gradients * (1 + np.abs(a).max()), err_msg=what)
  assert np.abs(gradients[2]).max() > 0  # Through all steps to the first.


def test_the_scan_stores_nothing_for_gradients():
  """No list of tensors that a loop fills for its own gradient."""
  core = make('rssm', 'float32')
  tokens = tf.zeros([B, T, E])

  def run():
    with tf.GradientTape() as tape:
      latents, _ = core.observe(
          tokens, tf.zeros([B, T, A]), tf.zeros([B, T], tf.bool),
          core.initial(B), distributions.Rng(0))
      total = tf.reduce_sum(latents.deter)
    return tape.gradient(total, core.trainable_variables)

  graph = tf.function(run, autograph=False).get_concrete_function().graph
  kinds = {
      node.op for function in graph.as_graph_def().library.function
      for node in function.node_def}
  assert not any('PushBack' in kind for kind in kinds)
