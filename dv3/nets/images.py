"""Sizes of image pyramids, shared by encoders and decoders."""

import tensorflow as tf

from dv3 import errors
from dv3 import types


def channels(spec: types.Spec) -> int:
  """Returns the channels of an image entry; 1 for [Y, X]."""
  return spec.shape[2] if len(spec.shape) == 3 else 1


def padded_size(
    specs: types.Specs, stages: int, smallest=(3, 16)) -> tuple[int, int]:
  """Returns rows and columns, padded to a multiple of 2^stages.

  Args:
    specs: image entries.
    stages: how often the network halves the image.
    smallest: the allowed range of the smallest map's rows and columns.

  Raises:
    UserError: if the images differ in size, or the smallest map would be
      outside the range.
  """
  sizes = {key: spec.shape[:2] for key, spec in specs.items()}
  if len(set(sizes.values())) > 1:
    raise errors.UserError(
        f'images of one encoder must have one size, these differ: {sizes}; '
        'resize them in the environment, or give them encoders of their own')
  factor = 2 ** stages
  size = next(iter(sizes.values()))
  rows, columns = (-(-x // factor) for x in size)
  low, high = smallest
  if not all(low <= x <= high for x in (rows, columns)):
    small = low * factor - factor + 1, high * factor
    raise errors.UserError(
        f'image {size[0]}x{size[1]} of {sorted(specs)} does not suit {stages} '
        f'stages of halving, which take {small[0]} to {small[1]} pixels a '
        'side; resize it in the environment or change the number of '
        'multipliers (encoder.cnn.multipliers and decoder.cnn.multipliers)')
  return rows * factor, columns * factor


def _margins(size, padded):
  """Returns (before, after) of the padding of one axis."""
  return (padded - size) // 2, padded - size - (padded - size) // 2


def pad(image, padded):
  """Pads image [N, Y, X, ch] with zeros around to `padded` rows, columns."""
  if tuple(image.shape[1:3]) == tuple(padded):
    return image
  rows = _margins(image.shape[1], padded[0])
  columns = _margins(image.shape[2], padded[1])
  return tf.pad(image, [[0, 0], rows, columns, [0, 0]])


def crop(image, size):
  """Undoes `pad`: crops image [N, Y, X, ch] to `size` rows and columns."""
  if tuple(image.shape[1:3]) == tuple(size):
    return image
  top = _margins(size[0], image.shape[1])[0]
  left = _margins(size[1], image.shape[2])[0]
  return image[:, top: top + size[0], left: left + size[1]]
