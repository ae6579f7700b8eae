"""FLOPs against counts by hand."""

import pytest
import small_agent
import tensorflow as tf

from dv3 import agent as agent_lib
from dv3 import registry
from dv3 import types
from dv3.benchmarking import flops
from dv3.nets import convolution

IMAGE = {'image': types.Spec((64, 64, 3), 'uint8')}
VECTOR = {'vector': types.Spec((4,), 'float32')}


def published(obs_spec, actions, *, deter, units, classes, depth):
  """Returns the unbuilt 2025 agent of a size; no variable is made of it."""
  part = small_agent.part
  return agent_lib.Agent(
      obs_spec=obs_spec,
      action_spec={'action': types.Spec((), 'int32', (actions,))},
      encoder=part(
          'encoder', 'dict', vector=part('encoder', 'mlp', units=units),
          image=part('encoder', 'cnn', depth=depth)),
      decoder=part(
          'decoder', 'dict', vector=part('decoder', 'mlp', units=units),
          image=part('decoder', 'cnn', depth=depth, units=units)),
      core=part(
          'core', 'rssm', deter=deter, hidden=units, classes=classes),
      reward=part('head', 'twohot', units=units, layers=1),
      continuation=part('head', 'binary', units=units),
      actor=part('head', 'actor', units=units),
      critic=part('head', 'twohot', units=units))


def by_hand(*, vector, actions, deter, units, classes, depth):
  """Counts an update on 16 x 64 steps with 15 imagined ones from the widths.

  Written from the network's description, without looking at its parts.
  """
  d, u, rows, horizon = deter, units, 16 * 64, 15
  z, bins = 32 * classes, 255
  f = d + z
  block = d * d // 8
  advance = d * u + z * u + actions * u + block + 3 * u * d + 3 * block
  prior = d * u + u * u + u * z
  if vector:
    token, encoder, first = u, 4 * u + 2 * u * u, 4 * u
    decoder = f * u + 2 * u * u + u * 4
  else:
    token = 16 * 4 * depth
    sizes = [3, 2 * depth, 3 * depth, 4 * depth, 4 * depth]
    pixels = [64 ** 2, 32 ** 2, 16 ** 2, 8 ** 2]
    stages = [
        25 * i * o * p for i, o, p in zip(
            sizes[:-1], sizes[1:], pixels, strict=True)]
    encoder, first = sum(stages), stages[0]
    start = d * token // 8 + z * 2 * u + 2 * u * token
    sizes = [4 * depth, 4 * depth, 3 * depth, 2 * depth, 3]
    decoder = start + sum(
        25 * i * o * p for i, o, p in zip(
            sizes[:-1], sizes[1:], reversed(pixels), strict=True))
  posterior = (d + token) * u + u * z
  reward, go_on = f * u + u * bins, f * u + u
  actor, critic = (f * u + 2 * u * u + u * n for n in (actions, bins))
  dreams = rows * (horizon + 1)
  return 2.0 * (
      rows * (3 * encoder - first)
      + rows * (3 * (advance + posterior) - actions * u)
      + rows * 3 * (prior + decoder + reward + go_on)
      + rows * horizon * (advance + prior)
      + dreams * (4 * actor - f * u)
      + dreams * (reward + go_on + critic)
      + dreams * (3 * critic - f * u)
      + rows * 4 * critic)


ONE = {'deter': 512, 'units': 64, 'classes': 4, 'depth': 4}
TWELVE = {'deter': 2048, 'units': 256, 'classes': 16, 'depth': 16}


@pytest.mark.parametrize('obs_spec, actions, size, gflop', [
    (VECTOR, 2, ONE, 29.0), (IMAGE, 6, ONE, 104.6), (IMAGE, 6, TWELVE, 1337),
], ids=['1m vectors', '1m images', '12m images'])
def test_published_sizes(obs_spec, actions, size, gflop):
  agent = published(obs_spec, actions, **size)
  agent.build()
  found = sum(flops.model_flops(agent, 16, 64).values())
  assert found == by_hand(vector=obs_spec is VECTOR, actions=actions, **size)
  # What the reference's optimised program has, docs/performance.md.
  assert float(f'{found / 1e9:.4g}') == pytest.approx(gflop, rel=1e-3)
  assert flops.uncounted(agent) == []


FEATURES = {'deter': 256, 'stoch': 1024}
KERNEL = 4 * 4


@pytest.mark.parametrize('kind, name, options, stages, start', [
    ('encoder', 'cnn', {
        'depth': 24, 'multipliers': (1, 2, 4, 8), 'kernel_size': 4,
        'strided': True, 'norm': 'layer'}, [
            32 ** 2 * KERNEL * 3 * 24, 16 ** 2 * KERNEL * 24 * 48,
            8 ** 2 * KERNEL * 48 * 96, 4 ** 2 * KERNEL * 96 * 192], 0),
    ('encoder', 'valid_cnn', {'depth': 48}, [
        31 ** 2 * KERNEL * 3 * 48, 14 ** 2 * KERNEL * 48 * 96,
        6 ** 2 * KERNEL * 96 * 192, 2 ** 2 * KERNEL * 192 * 384], 0),
    ('decoder', 'transposed_cnn', {'depth': 24}, [
        4 ** 2 * KERNEL * 192 * 96, 8 ** 2 * KERNEL * 96 * 48,
        16 ** 2 * KERNEL * 48 * 24, 32 ** 2 * KERNEL * 24 * 3],
     1280 * 4 ** 2 * 192),
    ('decoder', 'valid_cnn', {'depth': 48}, [
        1 * 25 * 1536 * 192, 5 ** 2 * 25 * 192 * 96,
        13 ** 2 * 36 * 96 * 48, 30 ** 2 * 36 * 48 * 3], 1280 * 1536),
], ids=['2023 encoder', '2021 encoder', '2023 decoder', '2021 decoder'])
def test_images_of_earlier_forms(
    kind, name, options, stages, start, monkeypatch):
  # What is executed is then what is counted.
  monkeypatch.setattr(convolution.Upconv2D, 'foldable', False)
  part = small_agent.part(kind, name, **options)(
      obs_spec=IMAGE,
      **({'feature_spec': FEATURES} if kind == 'decoder' else {}))
  part.build()
  first = stages[0] if kind == 'encoder' else 0
  assert flops.multiplications(part) == (start + sum(stages), first)
  given = (
      {'image': tf.TensorSpec((1, 64, 64, 3), tf.uint8)}
      if kind == 'encoder' else
      {key: tf.TensorSpec((1, size)) for key, size in FEATURES.items()})
  def run(values):
    found = part(values)
    return found if kind == 'encoder' else found['image'].mean()
  traced = tf.function(run, autograph=False).get_concrete_function(given)
  assert flops.executed_flops(traced) == 2 * (start + sum(stages))


def test_losses_that_are_not_known_are_named():
  class Extra(registry.get('loss', 'reward')):
    def names(self, parts):
      return ('mine',)
  agent = small_agent.make(
      losses=(registry.get('loss', 'kl'), Extra),
      balancer=small_agent.part('balancer', 'fixed', scales={}))
  agent.build()
  assert flops.uncounted(agent) == ['mine']
  parts = flops.model_flops(agent, 4, 5)
  assert set(parts) == {'encoder', 'observe', 'prior'}


def count(function, *shapes):
  traced = tf.function(function, autograph=False).get_concrete_function(
      *(tf.TensorSpec(x) for x in shapes))
  return flops.executed_flops(traced)


def test_executed_products():
  assert count(tf.matmul, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
  assert count(
      lambda a, b: tf.matmul(a, b, transpose_a=True), (4, 3), (4, 5)) == (
          2 * 3 * 4 * 5)
  assert count(tf.matmul, (7, 3, 4), (7, 4, 5)) == 7 * 2 * 3 * 4 * 5
  assert count(
      lambda a, b: tf.einsum('bij,jk->bik', a, b), (7, 3, 4), (4, 5)) == (
          7 * 2 * 3 * 4 * 5)


def test_executed_convolutions_with_gradients():
  def forward(x, kernel):
    return tf.nn.conv2d(x, kernel, 2, 'SAME')
  def both(x, kernel):
    with tf.GradientTape() as tape:
      tape.watch((x, kernel))
      y = tf.reduce_sum(forward(x, kernel) ** 2)
    return tape.gradient(y, (x, kernel))
  shapes = (2, 8, 8, 3), (5, 5, 3, 4)
  once = 2 * (2 * 4 * 4) * (5 * 5 * 3 * 4)
  assert count(forward, *shapes) == once
  assert count(both, *shapes) == 3 * once


def test_executed_loops_and_their_gradients():
  def loop(x, w):
    return tf.while_loop(
        lambda i, x: i < 6, lambda i, x: (i + 1, tf.matmul(x, w)),
        (tf.constant(0), x), maximum_iterations=6)[1]
  def both(x, w):
    with tf.GradientTape() as tape:
      tape.watch(w)
      y = tf.reduce_sum(loop(x, w))
    return tape.gradient(y, w)
  once = 2 * 3 * 4 * 4
  assert count(loop, (3, 4), (4, 4)) == 6 * once
  assert count(both, (3, 4), (4, 4)) == 3 * 6 * once
