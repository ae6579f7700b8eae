"""TensorBoard events, read back with TensorBoard's own reader."""

import io
import math
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from dv3 import errors
from dv3.loggers import tensorboard


def _load(folder):
  accumulator = event_accumulator.EventAccumulator(
      str(folder), {'scalars': 0, 'images': 0, 'tensors': 0})
  return accumulator.Reload()


def _scalars(folder, tag):
  return [(x.step, x.value) for x in _load(folder).Scalars(tag)]


def test_numbers_videos_and_texts_come_back(tmp_path):
  video = np.zeros((3, 8, 10, 3), np.uint8)
  video[0, ..., 0], video[1, ..., 1], video[2, ..., 2] = 250, 120, 30
  logger = tensorboard.TensorBoard(logdir=tmp_path)
  logger.write(5, {'loss/total': np.float32(1.5), 'updates': 3})
  logger.write(9, {
      'loss/total': math.nan, 'dream': video, 'config': 'core = @core.rssm'})
  loaded = _load(tmp_path)  # Without close: a write is visible at once.
  logger.close()
  assert set(loaded.Tags()['scalars']) == {'loss/total', 'updates'}
  first, second = loaded.Scalars('loss/total')
  assert (first.step, first.value) == (5, 1.5)
  assert second.step == 9 and math.isnan(second.value)
  [image] = loaded.Images('dream')
  assert (image.step, image.width, image.height) == (9, 10, 8)
  gif = Image.open(io.BytesIO(image.encoded_image_string))
  assert gif.format == 'GIF' and gif.n_frames == 3
  for index in range(3):
    gif.seek(index)
    np.testing.assert_array_equal(np.asarray(gif.convert('RGB')), video[index])
  [text] = loaded.Tensors('config')
  assert text.tensor_proto.string_val[0] == b'core = @core.rssm'
  plugin = loaded.SummaryMetadata('config').plugin_data.plugin_name
  assert plugin == 'text'


def test_a_resumed_run_supersedes_what_came_after_its_checkpoint(tmp_path):
  first = tensorboard.TensorBoard(logdir=tmp_path)
  for step in (10, 20, 30, 40):
    first.write(step, {'x': step})
  # No close: the process was killed.
  second = tensorboard.TensorBoard(logdir=tmp_path)
  second.truncate(20)
  second.write(30, {'x': -30})
  second.close()
  assert _scalars(tmp_path, 'x') == [(10, 10), (20, 20), (30, -30)]
  first.close()


def test_nothing_is_written_without_values(tmp_path):
  logger = tensorboard.TensorBoard(logdir=tmp_path)
  logger.write(1, {})
  logger.flush()
  logger.close()
  assert list(tmp_path.iterdir()) == []


def test_writing_after_close_continues_the_file(tmp_path):
  logger = tensorboard.TensorBoard(logdir=tmp_path)
  for step in (1, 2):
    logger.write(step, {'x': step})
    logger.close()
  assert len(list(tmp_path.glob('events.*'))) == 1
  assert _scalars(tmp_path, 'x') == [(1, 1), (2, 2)]


def test_a_full_disk_is_one_clear_error(tmp_path):
  logger = tensorboard.TensorBoard(logdir=tmp_path)
  logger.write(1, {'x': 1})
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
  try:
    with pytest.raises(errors.UserError, match='events.out.*space'):
      logger.write(2, {'text': 'x' * 1000})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  logger.write(3, {'x': 3})
  logger.close()
  assert _scalars(tmp_path, 'x') == [(1, 1), (3, 3)]


def test_tensorflow_is_not_loaded(tmp_path):
  code = f'''
import sys
import numpy as np
from dv3 import registry
for name in ('jsonl', 'tensorboard', 'terminal', 'video'):
  logger = registry.get('logger', name)(logdir={str(tmp_path)!r})
  logger.write(1, {{'x': 1.0, 'v': np.zeros((2, 4, 4, 1)), 't': 'text'}})
  logger.close()
from dv3.training import metrics, progress, video
assert 'tensorflow' not in sys.modules
'''
  subprocess.run([sys.executable, '-c', code], check=True)
