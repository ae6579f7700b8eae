"""Images of every size, shape and number through encoder and decoder."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3 import types
from dv3.decoders import cnn as cnn_decoder
from dv3.encoders import cnn as cnn_encoder
from dv3.encoders import dict as dict_encoder
from dv3.nets import images

FEATURES = {'deter': 16, 'stoch': 8}
CASES = {
    'square': {'image': types.Spec((12, 12, 3), 'uint8')},
    'not_square': {'image': types.Spec((12, 20, 3), 'uint8')},
    'odd': {'image': types.Spec((13, 19, 3), 'uint8')},
    'grey_without_channel': {'image': types.Spec((13, 12), 'uint8')},
    'grey': {'image': types.Spec((13, 12, 1), 'uint8')},
    'several': {
        'left': types.Spec((14, 12, 3), 'uint8'),
        'map': types.Spec((14, 12), 'uint8'),
        'right': types.Spec((14, 12, 3), 'uint8')}}


def _pixels(specs, lead):
  rng = np.random.default_rng(0)
  return {key: tf.constant(rng.integers(
      0, 256, (*lead, *spec.shape)).astype(np.uint8))
      for key, spec in specs.items()}


@pytest.mark.parametrize('strided', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_encoder_takes_and_decoder_gives_the_images(case, strided):
  specs = CASES[case]
  encoder = cnn_encoder.CNNEncoder(
      obs_spec=specs, depth=2, multipliers=(1, 2), kernel_size=3,
      strided=strided)
  decoder = cnn_decoder.CNNDecoder(
      obs_spec=specs, feature_spec=FEATURES, units=8, depth=4,
      multipliers=(1, 2), kernel_size=3, blocks=2, strided=strided)
  encoder.build()
  decoder.build()
  rows, columns = (
      math.ceil(x / 4) for x in next(iter(specs.values())).shape[:2])
  assert encoder.token_size == rows * columns * 4
  obs = _pixels(specs, (2, 3))
  assert encoder(obs).shape == [2, 3, encoder.token_size]
  predicted = decoder({
      k: tf.random.stateless_normal([2, 3, n], (0, n))
      for k, n in FEATURES.items()})
  assert set(predicted) == set(specs)
  for key, spec in specs.items():
    mode = np.asarray(predicted[key].mode())
    assert mode.shape == (2, 3, *spec.shape)
    assert predicted[key].log_prob(obs[key]).shape == [2, 3]


def test_every_image_reaches_the_tokens():
  specs = CASES['several']
  encoder = cnn_encoder.CNNEncoder(obs_spec=specs, depth=2, multipliers=(1, 2))
  encoder.build()
  obs = _pixels(specs, (1,))
  tokens = encoder(obs)
  for key in specs:
    other = encoder({**obs, key: 255 - obs[key]})
    assert not np.allclose(tokens, other), key


@pytest.mark.parametrize('size, padded', [
    ((12, 12), (12, 12)), ((13, 19), (16, 20)), ((15, 14), (16, 16))])
def test_cropping_undoes_padding(size, padded):
  image = np.random.default_rng(0).normal(size=(2, *size, 3))
  larger = images.pad(tf.constant(image), padded)
  assert larger.shape == (2, *padded, 3)
  np.testing.assert_allclose(np.sum(larger), image.sum())  # Zeros around.
  np.testing.assert_array_equal(images.crop(larger, size), image)


@pytest.mark.parametrize('shape', [(8, 12, 3), (12, 65, 3)])
def test_images_out_of_range_are_refused_with_the_remedy(shape):
  # Two halvings of 9 to 64 pixels give maps of 3 to 16.
  with pytest.raises(errors.UserError, match='9 to 64 pixels.*resize'):
    cnn_encoder.CNNEncoder(
        obs_spec={'image': types.Spec(shape, 'uint8')}, multipliers=(1, 2))


@pytest.mark.parametrize('side', [9, 64])
def test_images_at_the_edge_of_the_range_are_taken(side):
  cnn_encoder.CNNEncoder(
      obs_spec={'image': types.Spec((side, side, 3), 'uint8')},
      multipliers=(1, 2))


def test_images_of_two_sizes_are_refused():
  with pytest.raises(errors.UserError, match='one size'):
    cnn_encoder.CNNEncoder(obs_spec={
        'a': types.Spec((12, 12, 3), 'uint8'),
        'b': types.Spec((12, 16, 3), 'uint8')}, multipliers=(1, 2))


def test_excluding_an_unknown_key_or_everything_is_refused():
  specs = {'a': types.Spec((3,), 'float32')}
  with pytest.raises(errors.UserError, match='not observations'):
    dict_encoder.DictEncoder(obs_spec=specs, exclude=('b',))
  with pytest.raises(errors.UserError, match='left to encode'):
    dict_encoder.DictEncoder(obs_spec=specs, exclude=('a',))
