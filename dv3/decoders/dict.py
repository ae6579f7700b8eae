"""The decoder of dictionaries: each key comes from the right decoder."""

from collections.abc import Callable

import tf_keras as keras

from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.encoders import dict as dict_encoder


@registry.register('decoder', 'dict')
class DictDecoder(keras.layers.Layer, interfaces.Decoder):
  """Predicts each key by its space: images by one decoder, others by another.

  Args:
    obs_spec: all observation entries.
    feature_spec: {name: size} of the core's features.
    vector: factory of the decoder of numbers and class indices.
    image: factory of the decoder of uint8 images.
    exclude: keys that are not predicted.
    dtype: a Keras dtype policy.

  Raises:
    UserError: if no key is left to predict, or `exclude` names an unknown key.
  """

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      vector: Callable | None = None, image: Callable | None = None,
      exclude: tuple[str, ...] = (), dtype: str = 'float32'):
    super().__init__(autocast=False, dtype=dtype)
    images, vectors = dict_encoder.split(obs_spec, exclude)
    vector = vector or registry.get('decoder', 'mlp')
    image = image or registry.get('decoder', 'cnn')
    make = lambda factory, specs: factory(
        obs_spec=specs, feature_spec=feature_spec, dtype=dtype)
    self.vector = make(vector, vectors) if vectors else None
    self.image = make(image, images) if images else None
    self.keys = tuple(sorted({**vectors, **images}))

  def _decoders(self):
    return [x for x in (self.vector, self.image) if x is not None]

  def build(self, input_shape=None):
    for decoder in self._decoders():
      decoder.build()
    super().build(input_shape)

  def call(self, features):
    result = {}
    for decoder in self._decoders():
      result.update(decoder(features))
    return result
