"""GIF files, read back with Pillow."""

import resource

import numpy as np
import pytest
from PIL import Image

from dv3 import errors
from dv3.loggers import gif
from dv3.loggers import values
from dv3.loggers import video


def _frames(path):
  """Returns frames [T, Y, X, 3], their milliseconds [T], and the loops."""
  frames, durations = [], []
  with Image.open(path) as image:
    for index in range(image.n_frames):
      image.seek(index)
      frames.append(np.asarray(image.convert('RGB')))
      durations.append(image.info['duration'])
    return np.stack(frames), durations, image.info['loop']


def _random(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_grey_keeps_every_pixel(tmp_path):
  frames = _random(5, 8, 12, 1)
  logger = video.Videos(logdir=tmp_path)
  logger.write(1234, {'open_loop/image': frames, 'loss': 1.0})
  logger.close()
  [path] = (tmp_path / 'videos').iterdir()
  assert path.name == 'open_loop.image-000000001234.gif'
  read, durations, loop = _frames(path)
  np.testing.assert_array_equal(read, frames.repeat(3, -1))
  assert durations == [100] * 5 and loop == 0


def test_rgb_with_up_to_256_colours_keeps_every_pixel(tmp_path):
  colours = _random(200, 3)
  frames = colours[np.random.default_rng(1).integers(0, 200, (6, 20, 20))]
  video.Videos(logdir=tmp_path, frames_per_second=20).write(7, {'v': frames})
  read, durations, _ = _frames(tmp_path / 'videos' / 'v-000000000007.gif')
  np.testing.assert_array_equal(read, frames)
  assert durations == [50] * 6


def test_more_colours_are_near(tmp_path):
  ramp = np.linspace(0, 255, 64).astype(np.uint8)
  frames = np.stack(np.broadcast_arrays(
      ramp[:, None], ramp[None], np.uint8(9)), -1)
  frames = np.stack([frames, frames[::-1]])
  path = tmp_path / 'x.gif'
  path.write_bytes(gif.encode(frames))
  read, _, _ = _frames(path)
  error = np.abs(read.astype(int) - frames)
  assert error.mean() < 8 and error.max() < 40


def test_of_large_videos_a_part_chooses_the_palette(tmp_path):
  scenes = _random(8, 4, 6, 3).repeat(48, 1).repeat(64, 2)
  path = tmp_path / 'x.gif'
  path.write_bytes(gif.encode(scenes.repeat(8, 0)))
  read, durations, _ = _frames(path)
  assert sum(durations) == 64 * 100  # Equal frames are stored once.
  np.testing.assert_array_equal(read, scenes)


def test_floats_are_scaled_and_clipped():
  floats = np.array([0, 0.5, 1, 2, -1, np.nan], np.float32)
  np.testing.assert_array_equal(
      values.to_uint8(floats), [0, 128, 255, 255, 0, 0])


def test_the_folder_is_there_from_the_start(tmp_path):
  for _ in range(2):  # As a run that goes on.
    video.Videos(logdir=tmp_path / 'run').write(1, {'loss': 1.0})
  assert (tmp_path / 'run' / 'videos').is_dir()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
  (tmp_path / 'videos').write_text('')
  with pytest.raises(errors.UserError, match='cannot write .*videos.*mend'):
    video.Videos(logdir=tmp_path)


def test_truncate_removes_later_videos(tmp_path):
  logger = video.Videos(logdir=tmp_path)
  logger.truncate(0)  # Before there is a video.
  for step in (10, 20, 30):
    logger.write(step, {'v': _random(2, 4, 4, 1)})
  logger.truncate(20)
  assert sorted(path.name for path in (tmp_path / 'videos').iterdir()) == [
      'v-000000000010.gif', 'v-000000000020.gif']


def test_a_full_disk_is_one_clear_error_and_leaves_no_file(tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
  try:
    with pytest.raises(errors.UserError, match='v-000000000001.gif.*space'):
      video.Videos(logdir=tmp_path).write(1, {'v': _random(4, 32, 32, 3)})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert list((tmp_path / 'videos').iterdir()) == []
