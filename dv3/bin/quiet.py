"""Keeps TensorFlow's start-up messages off the terminal.

TF_CPP_MIN_LOG_LEVEL is not enough: TensorFlow 2.21 writes some lines before its
log is set up, whatever the level. They would bury the one line that tells a
user what is wrong.
"""

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import sys
import tempfile

from absl import logging as absl_logging


def install() -> None:
  """Silences stderr while TensorFlow is imported, whenever that will be.

  What TensorFlow itself logs below a warning stays away later, too.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  absl_logging.get_absl_handler().addFilter(
      lambda record: record.levelno >= logging.WARNING
      or f'{os.sep}tensorflow{os.sep}' not in record.pathname)
  if 'tensorflow' not in sys.modules:
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
  """Wraps the import of TensorFlow, once."""

  def find_spec(self, fullname, path=None, target=None):
    if fullname != 'tensorflow':
      return None
    sys.meta_path.remove(self)  # So that the real finders are asked.
    spec = importlib.util.find_spec(fullname)
    if spec is not None and spec.loader is not None:
      execute = spec.loader.exec_module

      def exec_module(module):
        with _captured():
          execute(module)
      spec.loader.exec_module = exec_module
    return spec


@contextlib.contextmanager
def _captured():
  """Holds back what is written to stderr, libraries in C included.

  It is shown after all if an exception passes.
  """
  if sys.stderr is None:  # It was closed before the start.
    yield
    return
  sys.stderr.flush()
  original = os.dup(2)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)
    try:
      yield
    except BaseException:
      sys.stderr.flush()
      file.seek(0)
      os.write(original, file.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(original, 2)
      os.close(original)
