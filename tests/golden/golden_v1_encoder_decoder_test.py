"""Golden numbers of the 2023 form: encoders, decoders, norm, initialiser."""

import functools

import golden_data
import golden_weights
import numpy as np
import tensorflow as tf

from dv3 import types
from dv3.decoders import mlp as mlp_decoder
from dv3.decoders import transposed_cnn
from dv3.encoders import cnn
from dv3.encoders import dict as dict_encoder
from dv3.encoders import mlp
from dv3.nets import initializers
from dv3.nets import norms

DATA = golden_data.load('v1_encoder_decoder')
STYLE = {'norm': 'layer', 'use_bias': False, 'fan': 'average'}
IMAGE = types.Spec(DATA['obs/image_uint8'].shape[2:], 'uint8')
VECTOR = types.Spec(DATA['obs/vec'].shape[2:], 'float32')
STAGES = sum(
    k.startswith('w/enc/cnn/s') and k.endswith('res/kernel') for k in DATA)
CNN = {
    'depth': DATA['w/enc/cnn/s0res/kernel'].shape[-1], 'kernel_size': 4,
    'multipliers': tuple(2 ** i for i in range(STAGES))}
MLP = {
    'layers': sum(
        k.startswith('w/enc/mlp/h') and k.endswith('kernel') for k in DATA),
    'units': DATA['w/enc/mlp/h0/kernel'].shape[-1], **STYLE}
FEATURES = {
    'deter': tf.constant(DATA['feat/deter']),
    'stoch': tf.constant(DATA['feat/stoch'].reshape(
        *DATA['feat/stoch'].shape[:2], -1))}
SIZES = {k: v.shape[-1] for k, v in FEATURES.items()}


def normed(name, kernel, norm):
  return {
      f'{name}/kernel': kernel, f'{name}/norm/scale': norm.scale,
      f'{name}/norm/bias': norm.shift}


def perceptron(prefix, layers):
  result = {}
  for i, layer in enumerate(layers.hidden):
    result |= normed(f'{prefix}h{i}', layer.linear.kernel, layer.norm)
  return result


def test_v1_encoder_decoder_encoder():
  part = dict_encoder.DictEncoder(
      obs_spec={'image': IMAGE, 'vec': VECTOR}, image_first=True,
      image=functools.partial(cnn.CNNEncoder, strided=True, **CNN, **STYLE),
      vector=functools.partial(mlp.MLPEncoder, **MLP))
  part.build()
  weights = perceptron('mlp/', part.vector.mlp)
  for i, conv in enumerate(part.image.convs):
    weights |= normed(f'cnn/s{i}res', conv.kernel, part.image.norms[i])
  golden_weights.assign(weights, DATA, 'w/enc/')
  tokens = part({
      'image': tf.constant(DATA['obs/image_uint8']),
      'vec': tf.constant(DATA['obs/vec'])})
  golden_weights.outputs(tokens, DATA['embed'])


def test_v1_encoder_decoder_image():
  part = transposed_cnn.TransposedCNNDecoder(
      obs_spec={'image': IMAGE}, feature_spec=SIZES, **CNN)
  part.build()
  weights = {
      'cnn/in/kernel': part.start.kernel, 'cnn/in/bias': part.start.bias}
  for i, conv in enumerate(part.convs):
    weights |= normed(f'cnn/s{i}res', conv.kernel, part.norms[i])
  last = f'cnn/s{len(part.convs)}res'
  weights |= {
      f'{last}/kernel': part.output_conv.kernel,
      f'{last}/bias': part.output_conv.bias}
  arrays = {k: v for k, v in DATA.items() if k.startswith('w/dec/cnn')}
  golden_weights.assign(weights, arrays, 'w/dec/')
  dist = part(FEATURES)['image']
  golden_weights.outputs(dist.mean(), DATA['recon/image'])
  np.testing.assert_allclose(
      -dist.log_prob(DATA['obs/image_uint8']), DATA['loss/image'], rtol=1e-4)


def test_v1_encoder_decoder_vector():
  part = mlp_decoder.MLPDecoder(
      obs_spec={'vec': VECTOR}, feature_spec=SIZES, tolerance=1e-8, **MLP)
  part.build()
  weights = perceptron('mlp/', part.mlp)
  weights |= {
      'mlp/dist_vec/out/kernel': part.outputs[0].kernel,
      'mlp/dist_vec/out/bias': part.outputs[0].bias}
  arrays = {k: v for k, v in DATA.items() if k.startswith('w/dec/mlp')}
  # The source joins deter and stoch in this order, the part the other way.
  first = arrays['w/dec/mlp/h0/kernel']
  arrays['w/dec/mlp/h0/kernel'] = np.concatenate(
      [first[SIZES['deter']:], first[:SIZES['deter']]])
  golden_weights.assign(weights, arrays, 'w/dec/')
  dist = part(FEATURES)['vec']
  # The file's predictions stay in symlog space.
  golden_weights.outputs(dist.mean(), DATA['recon/vec'])
  np.testing.assert_allclose(
      -dist.log_prob(DATA['obs/vec']), DATA['loss/vec'], rtol=1e-4)


def test_v1_encoder_decoder_layer_norm():
  layer = norms.LayerNorm()
  layer.build([None, DATA['layer_norm/x'].shape[-1]])
  layer.scale.assign(DATA['layer_norm/w/scale'])
  layer.shift.assign(DATA['layer_norm/w/bias'])
  golden_weights.outputs(
      layer(tf.constant(DATA['layer_norm/x'])), DATA['layer_norm/y'])


def test_v1_encoder_decoder_init_stats():
  tf.random.set_seed(0)
  initializer = initializers.TruncatedNormal(1.0, 'average')
  for shape, expected in zip(
      DATA['init_stats/shapes'], DATA['init_stats/mean_std_min_max'],
      strict=True):
    shape = [int(x) for x in str(shape).replace('x', ' ').replace(
        '(', ' ').replace(')', ' ').replace(',', ' ').split()]
    value = initializer(shape).numpy()
    _, std, low, high = expected
    np.testing.assert_allclose(value.std(), std, rtol=0.03)
    np.testing.assert_allclose(
        [value.min(), value.max()], [low, high], rtol=0.03)
