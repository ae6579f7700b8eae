"""The measurement of Pong's paddles, on pictures that the test draws."""

import importlib.util
import pathlib

import numpy as np
import pytest

PATH = pathlib.Path(__file__).parents[2] / 'benchmarks/pong_paddles.py'
BACKGROUND = (144, 72, 17)


@pytest.fixture(scope='module', name='paddles')
def load():
  spec = importlib.util.spec_from_file_location('pong_paddles', PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def picture(opponent=None, player=None, faint=0.0):
  """Returns an image with paddles of five rows from the given rows on."""
  image = np.full((64, 64, 3), BACKGROUND, np.float32)
  for row, columns, colour in (
      (opponent, slice(6, 8), (213, 130, 74)),
      (player, slice(56, 58), (92, 186, 92))):
    whole = np.array(colour, np.float32) - BACKGROUND
    image[11:59, columns] += faint * whole
    if row is not None:
      image[row: row + 5, columns] = colour
  return image


def test_centres_are_the_middle_rows_of_the_paddles(paddles):
  images = np.stack([
      picture(opponent=12, player=50), picture(opponent=40, player=13)])
  for name, rows in (('opponent', [14, 42]), ('player', [52, 15])):
    np.testing.assert_allclose(
        paddles.centres(images, paddles.PADDLES[name]), rows, atol=0.01)


def test_what_is_faint_is_no_paddle_and_moves_no_centre(paddles):
  player = paddles.PADDLES['player']
  assert np.isnan(paddles.centres(picture(faint=0.002), player))
  np.testing.assert_allclose(
      paddles.centres(picture(player=50, faint=0.2), player), 52, atol=0.01)


def test_compare_counts_a_missing_paddle_as_a_guess_of_the_mean(paddles):
  true = np.array([[10.0, 20, 30, 40], [np.nan, 20, 30, 40]])
  mean = np.nanmean(true)
  exact = paddles.compare(true, true)
  assert exact['correlation'] == pytest.approx(1)
  assert exact['median_error_rows'] == 0
  assert exact['not_drawn'] == 0
  none = paddles.compare(true, np.where(true == 10, 10, np.nan))
  assert none['not_drawn'] == pytest.approx(6 / 7)
  assert none['median_error_rows'] == pytest.approx(np.median(
      [0, *np.abs(np.array([20, 30, 40, 20, 30, 40]) - mean)]))
