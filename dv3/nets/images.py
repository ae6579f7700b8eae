"""Sizes of image pyramids, shared by encoders and decoders."""

import tensorflow as tf

from dv3 import errors
from dv3 import types
from dv3.nets import inputs
from dv3.nets import linear


def channels(spec: types.Spec) -> int:
  """Returns the channels of an image entry; 1 for [Y, X]."""
  return spec.shape[2] if len(spec.shape) == 3 else 1


def check_stages(component: str, multipliers: tuple[int, ...]) -> None:
  """Refuses stages of an image pyramid that cannot be.

  Args:
    component: its gin name, for the message.
    multipliers: of the channels, one a stage.

  Raises:
    UserError: if there is none, or one below 1.
  """
  name = f'{component}.multipliers'
  errors.check_least(1, {f'the number of {name}': len(multipliers)})
  errors.check_least(1, {f'one of {name}': min(multipliers)})


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
  factor = 2 ** stages
  size = common_size(specs)
  rows, columns = (-(-x // factor) for x in size)
  low, high = smallest
  if not all(low <= x <= high for x in (rows, columns)):
    small = low * factor - factor + 1, high * factor
    if all(
        len(x.shape) == 3 and x.shape[0] <= 4 < min(x.shape[1:])
        for x in specs.values()):
      raise errors.UserError(
          f'images {sorted(specs)} of shape {next(iter(specs.values())).shape} '
          'have their channels first; images here are [rows, columns, '
          'channels], so transpose them in the environment')
    raise errors.UserError(
        f'image {size[0]}x{size[1]} of {sorted(specs)} does not suit {stages} '
        f'stages of halving, which take {small[0]} to {small[1]} pixels a '
        'side; resize it in the environment or change the number of '
        'multipliers (encoder.cnn.multipliers and decoder.cnn.multipliers)')
  return rows * factor, columns * factor


def by_size(specs: types.Specs) -> list[types.Specs]:
  """Returns the image entries in groups of one size.

  Groups come in the alphabetical order of their first keys.
  """
  groups: dict[tuple[int, ...], dict[str, types.Spec]] = {}
  for key in sorted(specs):
    groups.setdefault(specs[key].shape[:2], {})[key] = specs[key]
  return list(groups.values())


def common_size(specs: types.Specs, least: int = 1) -> tuple[int, int]:
  """Returns the rows and columns that all image entries have.

  Raises:
    UserError: if they differ, or are below `least` pixels a side, if one is no
      image, or there is none.
  """
  wrong = [
      f'{key!r} of shape {spec.shape} is no image'
      for key, spec in specs.items() if len(spec.shape) not in (2, 3)]
  if wrong or not specs:
    raise errors.UserError(
        f'{"; ".join(wrong) or "there is no image among the observations"}; '
        'use encoder.dict and decoder.dict, which give each observation the '
        'network that suits it')
  sizes = {key: tuple(spec.shape[:2]) for key, spec in specs.items()}
  if len(set(sizes.values())) > 1:
    raise errors.UserError(
        f'images of one encoder must have one size, these differ: {sizes}; '
        'use encoder.dict and decoder.dict, which give each size a network of '
        'its own, or resize them in the environment')
  rows, columns = next(iter(sizes.values()))
  if min(rows, columns) < least:
    raise errors.UserError(
        f'image {rows}x{columns} of {sorted(specs)} is below {least} pixels a '
        'side; resize it in the environment')
  return rows, columns


def valid_sizes(size: tuple[int, int], kernel: int) -> list[tuple[int, int]]:
  """Returns the maps' sizes under stride-2 convolutions without padding.

  As many as leave a map of one pixel or more, with a kernel of at least 2.
  """
  sizes = []
  while min(size) >= kernel:
    size = ((size[0] - kernel) // 2 + 1, (size[1] - kernel) // 2 + 1)
    sizes.append(size)
  return sizes


def growing_kernels(size: int) -> list[int]:
  """Returns kernels of transposed convolutions from 1 to `size` pixels.

  Sizes grow from n to 2 (n - 1) + kernel; kernels are 5, the last ones 6 where
  that is needed: 5 5 6 6 for 64 pixels, as published.
  """
  stages = 1
  while True:
    for sixes in range(stages + 1):
      kernels = [5] * (stages - sixes) + [6] * sixes
      grown = 1
      for kernel in kernels:
        grown = 2 * (grown - 1) + kernel
      if grown >= size:
        return kernels
    stages += 1


def join(obs, obs_spec):
  """Concatenates images on the channels.

  Args:
    obs: {key: [..., Y, X, ch] or [..., Y, X]}.
    obs_spec: pairs (key, Spec) of the images.

  Returns:
    ([N, Y, X, channels], leading axes).

  Raises:
    UserError: as `inputs.entry`.
  """
  parts, lead = [], []
  for key, spec in obs_spec:
    image = inputs.entry(obs, key, spec)
    lead = linear.dynamic_shape(image)[:image.shape.rank - len(spec.shape)]
    parts.append(tf.reshape(image, [-1, *spec.shape[:2], channels(spec)]))
  return tf.concat(parts, -1), lead


def split(x, obs_spec, lead, distribution):
  """Undoes `join` for predicted means.

  Args:
    x: [N, Y, X, channels].
    obs_spec: pairs (key, Spec) of the images.
    lead: leading axes.
    distribution: class (mean, event_rank) of the results.

  Returns:
    {key: distribution}.
  """
  depths = [channels(spec) for _, spec in obs_spec]
  return {
      key: distribution(tf.reshape(part, [*lead, *spec.shape]), len(spec.shape))
      for (key, spec), part in zip(
          obs_spec, tf.split(x, depths, -1), strict=True)}


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
