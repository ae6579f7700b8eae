"""The encoder of dictionaries: each key goes to the right encoder."""

from collections.abc import Callable

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import images as images_lib
from dv3.nets import part


@registry.register('encoder', 'dict')
class DictEncoder(part.Part, interfaces.Encoder):
  """Encodes every key by its space: images by one encoder, the rest by another.

    tokens = concat(vector tokens, image tokens)         [..., E]

  Images of one size share an encoder, which sees them together; each further
  size has an encoder of its own. Their tokens follow one another in the
  alphabetical order of the first key of each size.

  Args:
    obs_spec: all observation entries.
    vector: factory of the encoder of numbers and class indices.
    image: factory of the encoder of uint8 images, called once a size.
    exclude: keys that are not encoded.
    image_first: whether the image tokens come first, as in the 2023 form.
    dtype: a Keras dtype policy.

  Raises:
    UserError: if no key is left to encode, or `exclude` names an unknown key;
      and what the two encoders raise.

  Source: danijar/dreamerv3 e3f0224, `Encoder`, which takes images of one size
    only.
  """

  def __init__(
      self, *, obs_spec: types.Specs, vector: Callable | None = None,
      image: Callable | None = None, exclude: tuple[str, ...] = (),
      image_first: bool = False, dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    self.image_first = image_first
    images, vectors = split(obs_spec, exclude)
    vector = vector or registry.get('encoder', 'mlp')
    image = image or registry.get('encoder', 'cnn')
    make = lambda factory, specs: part.make(
        factory, obs_spec=specs, dtype=dtype)
    self.vector = make(vector, vectors) if vectors else None
    # The first size keeps the name that checkpoints know.
    self.image, *self.further_images = [
        make(image, specs) for specs in images_lib.by_size(images)] or [None]
    self.token_size = sum(x.token_size for x in self._encoders())

  def _encoders(self):
    image = [self.image, *self.further_images]
    order = [*image, self.vector] if self.image_first else [self.vector, *image]
    return [x for x in order if x is not None]

  @part.once
  def build(self, input_shape=None):
    for encoder in self._encoders():
      encoder.build()
    super().build(input_shape)

  def call(self, obs):
    return tf.concat([encoder(obs) for encoder in self._encoders()], -1)


def split(
    obs_spec: types.Specs, exclude: tuple[str, ...] = ()
) -> tuple[types.Specs, types.Specs]:
  """Returns (images, vectors), the entries of the two kinds of encoder.

  Raises:
    UserError: if nothing is left, or an excluded key does not exist.
  """
  unknown = sorted(set(exclude) - set(obs_spec))
  if unknown:
    raise errors.UserError(
        f'excluded keys {unknown} are not observations; there are '
        f'{sorted(obs_spec)}')
  specs = {k: v for k, v in obs_spec.items() if k not in exclude}
  if not specs:
    raise errors.UserError(
        f'no observation is left to encode of {sorted(obs_spec)}; exclude '
        'fewer keys')
  images = {k: v for k, v in specs.items() if v.is_image}
  return images, {k: v for k, v in specs.items() if k not in images}
