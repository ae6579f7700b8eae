"""FLOPs against counts by hand."""

import pytest
import small_agent
import tensorflow as tf

from dv3 import agent as agent_lib
from dv3 import distributions
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


def test_every_size_of_images_counts():
  images = {
      name: types.Spec((size, size, 3), 'uint8')
      for name, size in (('a', 16), ('b', 32), ('c', 16))}
  encoder, decoder = (
      small_agent.part(kind, 'dict', image=small_agent.part(
          kind, 'cnn', depth=4, multipliers=(2, 2)))
      for kind in ('encoder', 'decoder'))
  # Sizes 16 and 32 make kernels of 25 pixels; a and c are one picture of six
  # channels. Pixels of the two stages, by what goes in and what comes out.
  first = 25 * (16 ** 2 * 6 + 32 ** 2 * 3) * 8
  second = 25 * (8 ** 2 + 16 ** 2) * 8 * 8
  part = encoder(obs_spec=images)
  part.build()
  assert flops.multiplications(part) == (first + second, first)
  alone = [
      decoder(obs_spec=specs, feature_spec=FEATURES) for specs in (
          {'a': images['a'], 'c': images['c']}, {'b': images['b']}, images)]
  for part in alone:
    part.build()
  *apart, together = [flops.multiplications(part)[0] for part in alone]
  assert together == sum(apart)


def backprop_agent(**kwargs):
  """Returns a built agent whose actor learns through the dynamics."""
  names = ('kl', 'reward', 'continue', 'actor_backprop', 'critic_imagined')
  agent = small_agent.make(
      losses=tuple(registry.get('loss', name) for name in names),
      balancer=small_agent.part('balancer', 'fixed', scales={}), **kwargs)
  agent.build()
  return agent


@pytest.mark.parametrize('hard', [True, False])
def test_gradients_through_dreams_count(hard):
  agent = backprop_agent(hard_continue=hard)
  # D = 16, U = 8, S = 4 x 4 classes, 2 + 3 actions, 4 blocks; layers: one of
  # the input kinds, two of the prior, one of each head with 41 bins.
  d, u, z, a, blocks, bins = 16, 8, 16, 5, 4, 41
  advance = (
      (d + z + a) * u + d * d // blocks + 3 * u * d + 3 * d * d // blocks)
  prior = d * u + u * u + u * z
  heads = 2 * ((d + z) * u + u * bins) + (0 if hard else (d + z) * u + u)
  rows, horizon = 4 * 5, 3
  found = flops.model_flops(agent, 4, 5)
  assert found['dream_gradient'] == (
      2 * rows * horizon * (advance + prior + heads))
  assert found['imagine'] == 2 * rows * horizon * (advance + prior)


def test_executed_gradients_through_dreams():
  agent = backprop_agent(hard_continue=False)
  batch = small_agent.batch()
  def run(batch):
    with tf.GradientTape() as tape:
      total, _ = agent.loss(batch, distributions.Rng(0))
    return tape.gradient(total, agent.trainable_variables)
  traced = tf.function(run, autograph=False).get_concrete_function(batch)
  model = flops.model_flops(agent, 4, 5)
  d, u, bins, outputs = 32, 8, 41, 7
  critic = d * u + u * bins
  dreams = 2 * 4 * 5 * (3 + 1)
  # Besides what the model asks for: filtering once more for all steps and once
  # more on the way back, weights' gradients that the dream's loop adds up and
  # nobody reads, a second look of the critic, and of the actor's gradient one
  # through entropies, the other through actions.
  expected = sum(model.values()) + (
      2 / 3 * model['observe'] + model['imagine'] + dreams * critic
      + dreams * (d * u + 2 * u * outputs))
  assert flops.executed_flops(traced) == pytest.approx(expected, rel=0.05)


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
  def persistent(x, w):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(w)
      y = tf.reduce_sum(loop(x, w))
    return tape.gradient(y, w)
  # The loop and its gradient are then in functions of their own.
  assert count(persistent, (3, 4), (4, 4)) == 3 * 6 * once


def test_a_loop_without_a_known_number_of_rounds_is_named():
  def loop(x, rounds):
    return tf.while_loop(
        lambda i, x: i < rounds, lambda i, x: (i + 1, tf.matmul(x, x)),
        (0.0, x))[1]
  with pytest.raises(ValueError, match='while has no static number of rounds'):
    count(loop, (4, 4), ())
