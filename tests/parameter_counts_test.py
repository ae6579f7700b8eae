"""The trained parameters of every shipped size, against the publications."""

import gin
import pytest
import tensorflow as tf

from dv3 import config
from dv3 import types
from dv3.training import run

CARTPOLE = (
    {'observation': types.Spec((4,), 'float32')},
    {'action': types.Spec((), 'int32', (2,))})
ATARI = (
    {'observation': types.Spec((64, 64, 3), 'uint8')},
    {'action': types.Spec((), 'int32', (6,))})

# RLlib's test, which is said to match the authors' code: world model on
# CartPole and Atari, actor on CartPole and Atari, critic.
RLLIB = {
    'xs': (2_435_076, 7_538_979, 328_706, 329_734, 393_727),
    's': (7_493_380, 15_687_811, 1_051_650, 1_053_702, 1_181_439),
    'm': (16_206_084, 32_461_635, 2_135_042, 2_137_606, 2_297_215),
    'l': (37_802_244, 68_278_275, 4_136_450, 4_139_526, 4_331_007),
    'xl': (108_353_796, 181_558_659, 9_449_474, 9_453_574, 9_708_799)}

SIZES = {  # deter, hidden, classes, depth, units
    '1m': (512, 64, 4, 4, 64), '12m': (2048, 256, 16, 16, 256),
    '25m': (3072, 384, 24, 24, 384), '50m': (4096, 512, 32, 32, 512),
    '100m': (6144, 768, 48, 48, 768), '200m': (8192, 1024, 64, 64, 1024),
    '400m': (12288, 1536, 96, 96, 1536)}

MEASURED = {  # The reference's own counts: CartPole, Atari.
    '1m': (637_381, 686_456), '12m': (None, 10_492_616)}


@pytest.fixture(autouse=True)
def clean():
  yield
  gin.clear_config()


def counts(files, specs):
  """Counts without storage: variables of a graph hold nothing."""
  config.parse([*files, 'task/cartpole.gin'])
  with tf.Graph().as_default():
    agent = gin.get_configurable('dv3.Agent')(
        obs_spec=specs[0], action_spec=specs[1])
    agent.build()
    return run.parameter_counts(agent)


def world_model(parts):
  return sum(parts[name] for name in (
      'encoder', 'core', 'decoder', 'reward', 'continue'))


@pytest.mark.parametrize('variant', [[], ['variant/rllib_gru.gin']])
@pytest.mark.parametrize('size', RLLIB)
def test_2023_sizes_have_rllibs_counts(size, variant):
  files = ['dreamerv3_v1.gin', f'size/v1_{size}.gin', *variant]
  cartpole, atari = counts(files, CARTPOLE), counts(files, ATARI)
  assert RLLIB[size] == (
      world_model(cartpole), world_model(atari), cartpole['actor'],
      atari['actor'], cartpole['critic'])
  assert cartpole['critic'] == atari['critic']


V1_SIZES = {  # deter, units, layers, depth, groups, classes; then RLlib's own
    'xs': (256, 256, 1, 24, 32, 32), 's': (512, 512, 2, 32, 32, 32),
    'm': (1024, 640, 3, 48, 32, 32), 'l': (2048, 768, 4, 64, 32, 32),
    'xl': (4096, 1024, 5, 96, 32, 32), 'nano': (16, 16, 1, 2, 4, 4),
    'micro': (32, 32, 1, 4, 8, 8), 'mini': (64, 64, 1, 8, 16, 16),
    'xxs': (128, 128, 1, 16, 32, 32)}


def by_v1_shapes(size):
  """Counts from the shapes that tests/golden's README states, as in RLLIB."""
  deter, units, layers, depth, groups, classes = V1_SIZES[size]
  stoch = groups * classes
  linear = lambda a, b: a * b + b
  layer = lambda a, b: a * b + 2 * b  # No bias; the norm's scale and shift.
  mlp = lambda a: layer(a, units) + (layers - 1) * layer(units, units)
  conv = lambda a, b: 16 * a * b + 2 * b
  features = deter + stoch
  def core(tokens, actions):
    return (
        layer(stoch + actions, units)
        + (deter + units) * 3 * deter + 2 * 3 * deter
        + layer(deter, units) + linear(units, stoch)
        + layer(deter + tokens, units) + linear(units, stoch) + deter)
  heads = 2 * mlp(features) + linear(units, 255) + linear(units, 1)
  vectors = mlp(4) + mlp(features) + linear(units, 4)
  depths = [depth * n for n in (1, 2, 4, 8)]
  small = 4 * 4 * depths[-1]
  images = conv(3, depth) + linear(features, small) + 16 * depth * 3 + 3
  for a, b in zip(depths, depths[1:], strict=False):
    images += conv(a, b) + conv(b, a)
  actor = lambda actions: mlp(features) + linear(units, actions)
  return (
      vectors + core(units, 2) + heads, images + core(small, 6) + heads,
      actor(2), actor(6), mlp(features) + linear(units, 255))


@pytest.mark.parametrize('size', RLLIB)
def test_the_shapes_give_rllibs_counts(size):
  assert by_v1_shapes(size) == RLLIB[size]


@pytest.mark.parametrize('size', sorted(set(V1_SIZES) - set(RLLIB)))
def test_rllibs_small_sizes(size):
  files = ['dreamerv3_v1.gin', f'size/v1_{size}.gin']
  cartpole, atari = counts(files, CARTPOLE), counts(files, ATARI)
  assert by_v1_shapes(size) == (
      world_model(cartpole), world_model(atari), cartpole['actor'],
      atari['actor'], cartpole['critic'])


def by_shapes(size, inputs, actions):
  """Counts from the shapes that tests/golden's README states.

  Args:
    size: key of SIZES.
    inputs: vector numbers, or 0 for a 64x64x3 image.
    actions: classes of one discrete action.
  """
  deter, hidden, classes, depth, units = SIZES[size]
  stoch, blocks, bins = 32 * classes, 8, 255
  linear = lambda a, b: a * b + b
  layer = lambda a, b: a * b + 2 * b  # Bias and the norm's scale.
  mlp = lambda a, n: layer(a, units) + (n - 1) * layer(units, units)
  conv = lambda a, b: 25 * a * b + 2 * b
  features = deter + stoch
  if inputs:
    tokens = units
    encoder = mlp(inputs, 3)
    decoder = mlp(features, 3) + linear(units, inputs)
  else:
    depths = [3, *(depth * n for n in (2, 3, 4, 4))]
    small = 4 * 4 * depths[-1]
    tokens = small
    encoder = sum(
        conv(a, b) for a, b in zip(depths, depths[1:], strict=False))
    decoder = (
        deter * small // blocks + small + layer(stoch, 2 * units)
        + linear(2 * units, small) + depths[-1])
    back = depths[:0:-1]
    decoder += sum(conv(a, b) for a, b in zip(back, back[1:], strict=False))
    decoder += 25 * back[-1] * 3 + 3
  piece = deter // blocks
  core = (
      layer(deter, hidden) + layer(stoch, hidden) + layer(actions, hidden)
      + blocks * (piece + 3 * hidden) * piece + 2 * deter
      + blocks * piece * 3 * piece + 3 * deter
      + layer(deter, hidden) + layer(hidden, hidden) + linear(hidden, stoch)
      + layer(deter + tokens, hidden) + linear(hidden, stoch))
  return (
      encoder + core + decoder + mlp(features, 1) + linear(units, bins)
      + mlp(features, 1) + linear(units, 1)
      + mlp(features, 3) + linear(units, actions)
      + mlp(features, 3) + linear(units, bins))


@pytest.mark.parametrize('size', SIZES)
def test_2025_sizes(size):
  files = ['dreamerv3.gin', f'size/{size}.gin']
  found = [counts(files, specs)['total'] for specs in (CARTPOLE, ATARI)]
  assert found == [by_shapes(size, 4, 2), by_shapes(size, 0, 6)]
  for count, measured in zip(
      found, MEASURED.get(size, (None, None)), strict=True):
    assert measured in (None, count)
