"""The decoder of dictionaries: each key comes from the right decoder."""

from collections.abc import Callable

from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.encoders import dict as dict_encoder
from dv3.nets import images as images_lib
from dv3.nets import part


@registry.register('decoder', 'dict')
class DictDecoder(part.Part, interfaces.Decoder):
  """Predicts each key by its space: images by one decoder, others by another.

    {name: [..., F]} -> {key: distribution of the entry}

  Images of one size share a decoder; each further size has one of its own.

  Args:
    obs_spec: all observation entries.
    feature_spec: {name: size} of the core's features.
    vector: factory of the decoder of numbers and class indices.
    image: factory of the decoder of uint8 images, called once a size.
    exclude: keys that are not predicted.
    dtype: a Keras dtype policy.

  Raises:
    UserError: if no key is left to predict, or `exclude` names an unknown key;
      and what the two decoders raise.

  Source: danijar/dreamerv3 e3f0224, `Decoder`, which takes images of one size
    only.
  """

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      vector: Callable | None = None, image: Callable | None = None,
      exclude: tuple[str, ...] = (), dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    images, vectors = dict_encoder.split(obs_spec, exclude)
    vector = vector or registry.get('decoder', 'mlp')
    image = image or registry.get('decoder', 'cnn')
    make = lambda factory, specs: part.make(
        factory, obs_spec=specs, feature_spec=feature_spec, dtype=dtype)
    self.vector = make(vector, vectors) if vectors else None
    # The first size keeps the name that checkpoints know.
    self.image, *self.further_images = [
        make(image, specs) for specs in images_lib.by_size(images)] or [None]
    self.keys = tuple(sorted({**vectors, **images}))

  def _decoders(self):
    decoders = (self.vector, self.image, *self.further_images)
    return [x for x in decoders if x is not None]

  @part.once
  def build(self, input_shape=None):
    for decoder in self._decoders():
      decoder.build()
    super().build(input_shape)

  def call(self, features):
    result = {}
    for decoder in self._decoders():
      result.update(decoder(features))
    return result
