"""What a metric is: a number, a video or a text. Shared by the loggers."""

from typing import Any
from typing import NamedTuple

import numpy as np


class Values(NamedTuple):
  """The metrics of one write, sorted by what they are.

  Attributes:
    numbers: {name: int or float}, not finite ones included.
    videos: {name: [T, Y, X, ch] uint8, ch 1 (grey) or 3 (RGB)}.
    texts: {name: str}.
  """

  numbers: dict[str, int | float]
  videos: dict[str, np.ndarray]
  texts: dict[str, str]


def split(metrics: dict[str, Any]) -> Values:
  """Sorts metrics by what they are.

  Args:
    metrics: {name: value}. A value is a str, a number (of Python or NumPy, or
      anything with `.numpy()`), or a video: [T, Y, X, ch], uint8 in [0, 255]
      or floats in [0, 1], grey (ch = 1) or RGB (ch = 3).

  Returns:
    The same, as plain Python numbers and uint8 videos.

  Raises:
    ValueError: if a value is none of these.
  """
  result = Values({}, {}, {})
  for name, value in metrics.items():
    if isinstance(value, str):
      result.texts[name] = value
      continue
    array = np.asarray(value.numpy() if hasattr(value, 'numpy') else value)
    if array.dtype.kind not in 'biuf' and array.dtype.name != 'bfloat16':
      raise ValueError(
          f'metric {name!r} is {value!r}: metrics are scalars, strings, or '
          'videos')
    if array.ndim == 0:
      whole = np.issubdtype(array.dtype, np.integer)
      result.numbers[name] = int(array) if whole else float(array)
    elif array.ndim == 4 and array.shape[-1] in (1, 3) and array.size:
      result.videos[name] = to_uint8(array)
    else:
      raise ValueError(
          f'metric {name!r} has shape {array.shape}: metrics are scalars, '
          'strings, or videos [T, Y, X, ch] with 1 or 3 channels')
  return result


def to_uint8(video: np.ndarray) -> np.ndarray:
  """Returns pixels as uint8; floats in [0, 1] are scaled, NaN becomes 0."""
  if video.dtype == np.uint8:
    return video
  pixels = np.nan_to_num(video.astype(np.float32), nan=0.0)
  return np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
