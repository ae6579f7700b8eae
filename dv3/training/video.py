"""Videos that compare what the model dreamt with what happened."""

import numpy as np

_SEES = (30, 160, 70)  # Green: the model is shown the frames.
_DREAMS = (200, 50, 45)  # Red: it only knows the actions.


def open_loop_grid(
    truth: np.ndarray, prediction: np.ndarray, context: int) -> np.ndarray:
  """Draws an open-loop prediction beside the truth.

  Each sequence is a column of three images: the truth; the model, with a
  border that is green while the model still sees the frames and red once it
  dreams; and their difference, (prediction - truth + 1) / 2, so that mid-grey
  means right, brighter that the model's image is too bright.

  Args:
    truth: [N, T, Y, X, ch] or [N, T, Y, X], uint8 in [0, 255] or floats in
      [0, 1]. Any number of channels but 3 is shown as grey, their mean.
    prediction: the same shape, either dtype; floats are clipped.
    context: the number of leading frames that the model saw, in [0, T].

  Returns:
    [T, 3 * Y, N * X, 3] uint8.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if truth.shape != prediction.shape or truth.ndim not in (4, 5):
    raise ValueError(
        'truth and prediction must both be [N, T, Y, X] or [N, T, Y, X, ch], '
        f'not {truth.shape} and {prediction.shape}')
  truth, prediction = _colour(truth), _colour(prediction)
  difference = (prediction - truth + 1) / 2
  rows, columns = truth.shape[2:4]
  width = max(1, min(rows, columns) // 32)
  border = np.ones((rows, columns), bool)
  border[width:-width, width:-width] = False
  model = prediction.copy()
  model[:, :context, border] = np.array(_SEES, np.float32) / 255
  model[:, context:, border] = np.array(_DREAMS, np.float32) / 255
  grid = np.stack([truth, model, difference])  # [3, N, T, Y, X, 3]
  grid = grid.transpose(2, 0, 3, 1, 4, 5)  # [T, 3, Y, N, X, 3]
  frames, _, rows, count, columns, _ = grid.shape
  grid = grid.reshape(frames, 3 * rows, count * columns, 3)
  return np.rint(grid * 255).astype(np.uint8)


def _colour(video):
  """Returns [N, T, Y, X, 3] float32 in [0, 1]."""
  scale = 255 if video.dtype == np.uint8 else 1
  video = np.nan_to_num(video.astype(np.float32) / scale)
  video = video[..., None] if video.ndim == 4 else video
  if video.shape[-1] != 3:
    video = video.mean(-1, keepdims=True).repeat(3, -1)
  return np.clip(video, 0, 1)
