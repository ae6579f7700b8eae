"""Golden numbers: norms, linear layers, convolutions, initialisers."""

import golden_data
import golden_weights
import modes
import numpy as np
import pytest
import tensorflow as tf

from dv3.nets import convolution
from dv3.nets import initializers
from dv3.nets import linear
from dv3.nets import mlp
from dv3.nets import norms
from dv3.nets import pooling

DATA = golden_data.load('norms_layers')


def kernel(case):
  return DATA[f'{case}/w/kernel']


def pooled(layer):
  return lambda x: pooling.max_pool2(layer(x))


def conv(case, **kwargs):
  return convolution.Conv2D(
      kernel(case).shape[-1], kernel(case).shape[0], **kwargs)


CASES = {
    'rms_norm': lambda c: (norms.RMSNorm(), None),
    'rms_norm_image': lambda c: (norms.RMSNorm(), None),
    'layer_norm': lambda c: (norms.LayerNorm(1e-4), None),
    'linear': lambda c: (linear.Linear(kernel(c).shape[-1]), None),
    'linear_shaped': lambda c: (
        linear.Linear(DATA[f'{c}/y'].shape[1:]), None),
    'block_linear': lambda c: (linear.BlockLinear(
        DATA[f'{c}/y'].shape[-1], kernel(c).shape[0]), None),
    'conv_k5_s1': lambda c: (conv(c), None),
    'conv_k5_s2': lambda c: (conv(c, stride=2), None),
    'conv_k5_s2_odd': lambda c: (conv(c, stride=2), None),
    'conv_transp_k5_s2': lambda c: (
        conv(c, stride=2, transposed=True), None),
    'conv_k5_maxpool2': lambda c: (conv(c), pooled),
    'repeat2_conv_k5': lambda c: (conv(c, repeated=True), None),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('mode', modes.MODES)
def test_norms_layers_values_and_gradients(case, mode, monkeypatch):
  layer, wrap = CASES[case](case)
  x = tf.constant(DATA[f'{case}/x'])
  layer.build(x.shape)
  names = sorted(
      k.split('/')[-1] for k in DATA if k.startswith(f'{case}/w/'))
  weights = [getattr(layer, name) for name in names]
  for name, weight in zip(names, weights, strict=True):
    weight.assign(DATA[f'{case}/w/{name}'])
  run = wrap(layer) if wrap else layer

  def compute(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = run(x)
      scalar = tf.reduce_sum(y * DATA[f'{case}/cotangent'])
    return y, tape.gradient(scalar, [x, *weights])

  y, (grad_x, *grads) = modes.compiled(compute, mode, monkeypatch)(x)
  golden_weights.outputs(y, DATA[f'{case}/y'])
  golden_weights.gradients(grad_x, DATA[f'{case}/grad_x'])
  for name, grad in zip(names, grads, strict=True):
    golden_weights.gradients(grad, DATA[f'{case}/grad_w/{name}'], name)


def test_norms_layers_silu():
  x = tf.constant(DATA['silu/x'])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = mlp.activation('silu')(x)
  golden_weights.outputs(y, DATA['silu/y'])
  golden_weights.gradients(tape.gradient(y, x), DATA['silu/grad'])


def test_norms_layers_mlp():
  units = DATA['mlp/w/linear0/kernel'].shape[-1]
  layers = sum(k.startswith('mlp/w/linear') for k in DATA) // 2
  part = mlp.MLP(layers, units)
  part.build(DATA['mlp/x'].shape)
  golden_weights.assign(golden_weights.mlp('', part), DATA, 'mlp/w/')
  golden_weights.outputs(part(DATA['mlp/x']), DATA['mlp/y'])




def test_norms_layers_init_stats():
  tf.random.set_seed(0)
  names = [str(x) for x in DATA['init_stats/names']]
  for i, name in enumerate(names):
    fan_in = int(DATA['init_stats/fan_in_used'][i])
    scale = float(DATA['init_stats/outscale'][i])
    _, stddev, low, high = DATA['init_stats/mean_std_min_max'][i]
    # Any shape with this fan-in and enough samples has these statistics.
    samples = max(2, 200_000 // fan_in)
    values = initializers.TruncatedNormal(scale)([fan_in, samples]).numpy()
    assert values.std() == pytest.approx(stddev, rel=0.02), name
    assert abs(values.mean()) < 5 * stddev / np.sqrt(values.size), name
    limit = 2 / 0.87962566 * scale / np.sqrt(fan_in)
    assert np.abs(values).max() <= limit * (1 + 1e-6), name
    assert max(-low, high) <= limit * (1 + 1e-6), name


def test_norms_layers_init_stats_block_fan_in_is_the_whole_input():
  tf.random.set_seed(0)
  layer = linear.BlockLinear(8 * 128, 8)
  layer.build([None, 8 * 96])
  assert layer.kernel.numpy().std() == pytest.approx(
      1 / np.sqrt(8 * 96), rel=0.02)
