"""Videos as files that anyone can open."""

import os
import pathlib
import re

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.loggers import files
from dv3.loggers import gif
from dv3.loggers import values


@registry.register('logger', 'video')
class Videos(interfaces.Logger):
  """Writes videos to `videos/<name>-<env steps, 12 digits>.gif`.

  Slashes in names become dots. A file appears whole or not at all. The folder
  is there from the start, in runs without images too.

  Args:
    logdir: the run's folder.
    frames_per_second: shown speed.

  Raises:
    UserError: if the folder or a file cannot be written.
  """

  def __init__(
      self, *, logdir: str | os.PathLike, frames_per_second: float = 10.0):
    errors.check_above(0, errors.named(
        'logger.video', frames_per_second=frames_per_second))
    self._folder = pathlib.Path(logdir) / 'videos'
    self._frames_per_second = frames_per_second
    try:
      self._folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise files.write_error(self._folder, error) from error

  def write(self, step, metrics):
    for name, video in values.split(metrics).videos.items():
      data = gif.encode(video, self._frames_per_second)
      stem = re.sub(r'[^\w.-]+', '_', name.replace('/', '.'))
      path = self._folder / f'{stem}-{int(step):012d}.gif'
      files.write_whole(path, data)

  def truncate(self, step):
    for path in self._folder.glob('*.gif'):
      match = re.search(r'-(\d{12})\.gif$', path.name)
      if match and int(match.group(1)) > step:
        path.unlink()
