"""The open-loop grid: places, borders, differences."""

import numpy as np
import pytest

from dv3.training import video

_GREEN, _RED = (30, 160, 70), (200, 50, 45)


def _random(shape, seed):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_every_pixel_of_a_colour_grid():
  count, frames, rows, columns, context = 3, 5, 8, 12, 2
  truth = _random((count, frames, rows, columns, 3), 0)
  model = _random((count, frames, rows, columns, 3), 1)
  grid = video.open_loop_grid(truth, model, context)
  assert grid.shape == (frames, 3 * rows, count * columns, 3)
  assert grid.dtype == np.uint8
  for n in range(count):
    for t in range(frames):
      column = grid[t, :, n * columns:(n + 1) * columns]
      above, middle, below = np.split(column, 3)
      np.testing.assert_array_equal(above, truth[n, t])
      np.testing.assert_array_equal(
          middle[1:-1, 1:-1], model[n, t, 1:-1, 1:-1])
      colour = _GREEN if t < context else _RED
      for edge in (middle[0], middle[-1], middle[:, 0], middle[:, -1]):
        np.testing.assert_array_equal(edge, np.broadcast_to(colour, edge.shape))
      expected = (model[n, t].astype(float) - truth[n, t] + 255) / 2
      assert np.abs(below - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize('shape', [(2, 3, 9, 7), (2, 3, 9, 7, 1)])
def test_grey_is_shown_in_colour_channels(shape):
  truth = _random(shape, 0)
  grid = video.open_loop_grid(truth, truth, 3)
  assert grid.shape == (3, 27, 14, 3)
  np.testing.assert_array_equal(
      grid[1, :9, 7:], truth[1, 1].reshape(9, 7, 1).repeat(3, -1))
  np.testing.assert_array_equal(grid[:, 18:], 128)


def test_other_channels_are_shown_as_their_mean():
  truth = np.zeros((1, 1, 4, 4, 4), np.float32)
  truth[..., 0] = 1
  grid = video.open_loop_grid(truth, truth, 0)
  np.testing.assert_array_equal(grid[0, :4], 64)  # 255 / 4, rounded.


def test_floats_and_bytes_mix_and_floats_are_clipped():
  truth = np.full((1, 1, 4, 4, 3), 255, np.uint8)
  model = np.full((1, 1, 4, 4, 3), 1.5, np.float32)
  model[..., 1, 1, :] = -3
  grid = video.open_loop_grid(truth, model, 1)[0]
  assert (grid[5, 1] == 0).all() and (grid[5, 2] == 255).all()
  assert (grid[9, 1] == 0).all() and (grid[9, 2] == 128).all()


def test_the_inputs_are_left_alone():
  truth = _random((1, 2, 8, 8, 3), 0)
  model = truth.astype(np.float32) / 255
  copies = truth.copy(), model.copy()
  video.open_loop_grid(truth, model, 1)
  np.testing.assert_array_equal(truth, copies[0])
  np.testing.assert_array_equal(model, copies[1])


@pytest.mark.parametrize('shapes', [
    ((2, 3, 8, 8, 3), (2, 4, 8, 8, 3)), ((8, 8, 3), (8, 8, 3))])
def test_shapes_that_do_not_fit_are_refused(shapes):
  with pytest.raises(ValueError, match='must both be'):
    video.open_loop_grid(*(np.zeros(shape) for shape in shapes), context=1)
