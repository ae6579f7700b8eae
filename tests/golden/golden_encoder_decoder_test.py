"""Golden numbers: encoders and decoders, values and gradients."""

import functools

import golden_data
import golden_weights
import modes
import numpy as np
import pytest
import tensorflow as tf

from dv3 import types
from dv3.decoders import cnn as cnn_decoder
from dv3.decoders import dict as dict_decoder
from dv3.decoders import mlp as mlp_decoder
from dv3.encoders import cnn as cnn_encoder
from dv3.encoders import dict as dict_encoder
from dv3.encoders import mlp as mlp_encoder

DATA = golden_data.load('encoder_decoder')
CASES = {
    'default': ('zimage', 'vec', 'aux', 'token'), 'image_only': ('zimage',),
    'vector_only': ('vec', 'aux'), 'strided': ('zimage',)}


def spec(case, key):
  value = DATA[f'obs/{key}']
  if key == 'token':
    return types.Spec((), 'int32', (DATA[f'{case}/recon/token'].shape[-1],))
  return types.Spec(value.shape[2:], value.dtype.name)


def options(case):
  """Reads sizes from the arrays."""
  prefix = f'{case}/w/enc/cnn'
  kernels = [
      DATA[f'{prefix}{i}/kernel'] for i in range(9)
      if f'{prefix}{i}/kernel' in DATA]
  depths = tuple(k.shape[-1] for k in kernels)
  image = {
      'depth': 1, 'multipliers': depths, 'strided': case == 'strided',
      'kernel_size': kernels[0].shape[0] if kernels else 5}
  vector = {}
  if f'{case}/w/enc/mlp0/kernel' in DATA:
    vector = {
        'units': DATA[f'{case}/w/enc/mlp0/kernel'].shape[-1],
        'layers': sum(
            k.startswith(f'{case}/w/enc/mlp') and k.endswith('/kernel')
            for k in DATA)}
  return vector, image


def make(case):
  obs_spec = {key: spec(case, key) for key in CASES[case]}
  vector, image = options(case)
  encoder = dict_encoder.DictEncoder(
      obs_spec=obs_spec,
      vector=functools.partial(mlp_encoder.MLPEncoder, **vector),
      image=functools.partial(cnn_encoder.CNNEncoder, **image))
  encoder.build()
  deter, stoch = DATA['feat/deter'], DATA['feat/stoch']
  if f'{case}/w/dec/sp1/kernel' in DATA:
    image['units'] = DATA[f'{case}/w/dec/sp1/kernel'].shape[-1] // 2
    image['blocks'] = DATA[f'{case}/w/dec/sp0/kernel'].shape[0]
  decoder = dict_decoder.DictDecoder(
      obs_spec=obs_spec, feature_spec={
          'deter': deter.shape[-1], 'stoch': stoch.shape[2] * stoch.shape[3]},
      vector=functools.partial(mlp_decoder.MLPDecoder, **vector),
      image=functools.partial(cnn_decoder.CNNDecoder, **image))
  decoder.build()
  weights = {
      **golden_weights.prefixed('enc', golden_weights.encoder(encoder)),
      **golden_weights.prefixed('dec', golden_weights.decoder(decoder))}
  golden_weights.assign(weights, DATA, f'{case}/w/')
  obs = {key: tf.constant(DATA[f'obs/{key}']) for key in obs_spec}
  return encoder, decoder, weights, obs


@pytest.mark.parametrize('case', CASES)
def test_encoder_decoder_tokens(case):
  encoder, _, weights, obs = make(case)
  weights = {k: v for k, v in weights.items() if k.startswith('enc/')}
  names = sorted(weights)
  with tf.GradientTape() as tape:
    tokens = encoder(obs)
    scalar = tf.reduce_sum(tokens * DATA[f'{case}/tokens_cotangent'])
  golden_weights.outputs(tokens, DATA[f'{case}/tokens'])
  assert encoder.token_size == tokens.shape[-1]
  grads = tape.gradient(scalar, [weights[n] for n in names])
  for name, grad in zip(names, grads, strict=True):
    golden_weights.gradients(
        grad, DATA[f'{case}/grad_tokens/w/{name}'], name)


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('mode', modes.MODES)
def test_encoder_decoder_reconstruction(case, mode, monkeypatch):
  _, decoder, weights, obs = make(case)
  weights = {k: v for k, v in weights.items() if k.startswith('dec/')}
  names = sorted(weights)
  deter = tf.constant(DATA['feat/deter'])
  stoch = tf.constant(DATA['feat/stoch'])

  def run():
    with tf.GradientTape() as tape:
      tape.watch([deter, stoch])
      flat = tf.reshape(stoch, [*stoch.shape[:2], -1])
      dists = decoder({'deter': deter, 'stoch': flat})
      losses = {k: -dist.log_prob(obs[k]) for k, dist in dists.items()}
      scalar = tf.add_n([tf.reduce_mean(x) for x in losses.values()])
    grads = tape.gradient(
        scalar, [deter, stoch, *(weights[n] for n in names)])
    recon = {
        k: dist.log_probs[0] if k == 'token' else dist.mean()
        for k, dist in dists.items()}
    return recon, losses, grads

  recon, losses, (grad_deter, grad_stoch, *grads) = modes.compiled(
      run, mode, monkeypatch)()
  assert set(recon) == set(CASES[case])
  for key in recon:
    golden_weights.outputs(recon[key], DATA[f'{case}/recon/{key}'], key)
    np.testing.assert_allclose(
        losses[key], DATA[f'{case}/loss/{key}'], rtol=1e-4, atol=1e-5)
  golden_weights.gradients(grad_deter, DATA[f'{case}/grad_loss/deter'])
  golden_weights.gradients(grad_stoch, DATA[f'{case}/grad_loss/stoch'])
  for name, grad in zip(names, grads, strict=True):
    golden_weights.gradients(grad, DATA[f'{case}/grad_loss/w/{name}'], name)
