"""Images of every size, shape and number through encoder and decoder."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from dv3 import errors
from dv3 import types
from dv3.decoders import cnn as cnn_decoder
from dv3.decoders import dict as dict_decoder
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


def test_images_of_two_sizes_are_refused_by_one_encoder():
  with pytest.raises(errors.UserError, match='one size.*encoder.dict'):
    cnn_encoder.CNNEncoder(obs_spec={
        'a': types.Spec((12, 12, 3), 'uint8'),
        'b': types.Spec((12, 16, 3), 'uint8')}, multipliers=(1, 2))


def _two_sizes():
  """Images of two sizes, one of them twice, and numbers."""
  specs = {
      'a': types.Spec((12, 12, 3), 'uint8'),
      'b': types.Spec((13, 17), 'uint8'), 'c': types.Spec((12, 12), 'uint8'),
      'numbers': types.Spec((3,), 'float32')}
  options = {'depth': 4, 'multipliers': (1, 2), 'kernel_size': 3}
  encoder = dict_encoder.DictEncoder(
      obs_spec=specs, image=functools.partial(
          cnn_encoder.CNNEncoder, **options))
  decoder = dict_decoder.DictDecoder(
      obs_spec=specs, feature_spec=FEATURES, image=functools.partial(
          cnn_decoder.CNNDecoder, units=8, blocks=2, **options))
  encoder.build()
  decoder.build()
  numbers = {'numbers': tf.zeros([2, 5, 3])}
  images_of = {k: v for k, v in specs.items() if k != 'numbers'}
  return encoder, decoder, {**_pixels(images_of, (2, 5)), **numbers}, specs


def test_each_size_of_image_has_an_encoder_of_its_own():
  encoder, _, obs, specs = _two_sizes()
  # Maps of 3 x 3 for the two of 12 x 12, of 4 x 5 for the one of 13 x 17.
  assert encoder.token_size == encoder.vector.token_size + (9 + 20) * 8
  tokens = encoder(obs)
  assert tokens.shape == [2, 5, encoder.token_size]
  first = encoder.vector.token_size
  changes = lambda other: np.flatnonzero(
      np.any(np.asarray(tokens != encoder(other)), (0, 1)))
  for key in specs:
    where = changes({**obs, key: obs[key] + 1})
    assert where.size, key
    if key in 'ac':
      assert first <= where.min() and where.max() < first + 72, key
    elif key == 'b':
      assert where.min() >= first + 72


def test_each_size_of_image_has_a_decoder_of_its_own():
  _, decoder, obs, specs = _two_sizes()
  features = {
      k: tf.random.stateless_normal([2, 5, n], (0, n))
      for k, n in FEATURES.items()}
  with tf.GradientTape() as tape:
    predicted = decoder(features)
    loss = tf.add_n([
        -tf.reduce_sum(dist.log_prob(obs[key]))
        for key, dist in predicted.items()])
  assert set(predicted) == set(specs) == set(decoder.keys)
  for key, spec in specs.items():
    assert predicted[key].mean().shape == [2, 5, *spec.shape]
  gradients = tape.gradient(loss, decoder.trainable_variables)
  assert len(gradients) > len(decoder.image.trainable_variables)
  assert all(x is not None for x in gradients)


def test_excluding_an_unknown_key_or_everything_is_refused():
  specs = {'a': types.Spec((3,), 'float32')}
  with pytest.raises(errors.UserError, match='not observations'):
    dict_encoder.DictEncoder(obs_spec=specs, exclude=('b',))
  with pytest.raises(errors.UserError, match='left to encode'):
    dict_encoder.DictEncoder(obs_spec=specs, exclude=('a',))
