"""Animated GIFs, which every browser and file manager opens."""

import io

import numpy as np
from PIL import Image

_PALETTE_PIXELS = 600_000
"""So many pixels choose the palette: 0.2 s; smaller videos are seen whole."""


def encode(video: np.ndarray, frames_per_second: float = 10.0) -> bytes:
  """Encodes a video as an endless animated GIF.

  A GIF has 256 colours. Grey videos, and short ones with no more colours than
  that, keep every pixel exactly. Equal frames in a row are stored once, with
  their durations added.

  Args:
    video: [T, Y, X, ch] uint8, ch 1 (grey) or 3 (RGB).
    frames_per_second: shown speed; GIF counts in 1/100 s.

  Returns:
    The file's bytes.
  """
  if video.shape[-1] == 1:
    frames = [Image.fromarray(frame[..., 0]) for frame in video]
  else:
    # One palette for all frames: faster than one each, and it does not flicker.
    step = -(-video[..., 0].size // _PALETTE_PIXELS)
    seen = video[::step]
    palette = Image.fromarray(
        seen.reshape(-1, *video.shape[2:])
    ).quantize(256, dither=Image.Dither.NONE)
    frames = [
        Image.fromarray(frame).quantize(
            palette=palette, dither=Image.Dither.NONE)
        for frame in video]
  buffer = io.BytesIO()
  frames[0].save(
      buffer, 'GIF', save_all=True, append_images=frames[1:], loop=0,
      duration=max(20, 10 * round(100 / frames_per_second)))
  return buffer.getvalue()
