"""TensorBoard event files, written without TensorFlow."""

# The generated protocol buffers carry no types.
# pyright: reportAttributeAccessIssue=false

import os
import pathlib
import socket
import time

from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.proto import tensor_pb2
from tensorboard.compat.proto import types_pb2
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer import record_writer

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.loggers import files
from dv3.loggers import gif
from dv3.loggers import values


@registry.register('logger', 'tensorboard')
class TensorBoard(interfaces.Logger):
  """Writes `events.*`: numbers, videos (as animated GIF images) and texts.

  The step is env steps. After `truncate(step)`, which a resumed run calls, a
  session start is written, which makes TensorBoard forget the events after
  that step which the earlier process wrote.

  `EventFileWriter` of the tensorboard package is not used: it imports
  TensorFlow where that is installed, and reports a full disk from a thread.

  Args:
    logdir: the run's folder.
    frames_per_second: shown speed of videos.
  """

  def __init__(
      self, *, logdir: str | os.PathLike, frames_per_second: float = 10.0):
    errors.check_above(0, errors.named(
        'logger.tensorboard', frames_per_second=frames_per_second))
    # Files of one run are read in the order of their names.
    name = f'events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}'
    self._path = pathlib.Path(logdir) / f'{name}.{os.getpid()}'
    self._frames_per_second = frames_per_second
    self._file = None

  def write(self, step, metrics):
    numbers, videos, texts = values.split(metrics)
    summary = summary_pb2.Summary()
    for name, number in numbers.items():
      summary.value.add(tag=name, simple_value=number)
    for name, video in videos.items():
      summary.value.add(tag=name, image=summary_pb2.Summary.Image(
          height=video.shape[1], width=video.shape[2],
          colorspace=video.shape[3],
          encoded_image_string=gif.encode(video, self._frames_per_second)))
    for name, text in texts.items():
      summary.value.add(
          tag=name,
          metadata=text_metadata.create_summary_metadata(name, ''),
          tensor=tensor_pb2.TensorProto(
              dtype=types_pb2.DT_STRING, string_val=[text.encode()]))
    if summary.value:
      self._add(event_pb2.Event(step=int(step), summary=summary))

  def truncate(self, step):
    self._add(event_pb2.Event(
        step=int(step) + 1,
        session_log=event_pb2.SessionLog(
            status=event_pb2.SessionLog.START)))

  def flush(self):
    if self._file:
      self._file.flush()

  def close(self):
    if self._file:
      self._file.close()
      self._file = None

  def _add(self, event):
    """Appends one event; opens the file before the first one."""
    if self._file is None:
      new = not self._path.exists()
      self._file = files.AppendFile(self._path)
      if new:
        self._record(event_pb2.Event(file_version='brain.Event:2'))
    self._record(event)

  def _record(self, event):
    event.wall_time = time.time()
    record_writer.RecordWriter(self._file).write(event.SerializeToString())
