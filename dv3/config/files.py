"""Finds gin files: shipped names and paths.

The shipped files lie in `gin_configs` inside the installed package, or in
`gin/` beside the package in a checkout.
"""

import functools
import os
import re

from dv3 import errors
from dv3 import nearest

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def shipped_folder() -> str:
  """Returns the absolute path of the folder of shipped gin files."""
  installed = os.path.join(_PACKAGE, 'gin_configs')
  checkout = os.path.join(os.path.dirname(_PACKAGE), 'gin')
  return installed if os.path.isdir(installed) else checkout


def shipped_names() -> list[str]:
  """Returns the names of all shipped files, for example 'size/1m.gin'."""
  folder = shipped_folder()
  return sorted(
      os.path.relpath(os.path.join(root, name), folder).replace(os.sep, '/')
      for root, _, names in os.walk(folder)
      for name in names if name.endswith('.gin'))


def is_shipped(path: str) -> bool:
  """Returns whether an absolute path lies in the shipped folder."""
  return _shipped_name(path) is not None


def label(path: str) -> str:
  """Returns the shipped name of a path, or the path itself."""
  return _shipped_name(path) or path


def _shipped_name(path: str) -> str | None:
  # As it is written first: some installers make each file a link elsewhere.
  for resolve in (os.path.abspath, os.path.realpath):
    folder = resolve(shipped_folder()) + os.sep
    if resolve(path).startswith(folder):
      return resolve(path).removeprefix(folder)
  return None


def find(name: str, beside: str | None = None) -> str:
  """Finds a gin file.

  Args:
    name: a shipped name such as 'preset/pong.gin', or a path.
    beside: for an include, the absolute path of the file that includes it. A
      shipped file includes shipped files only; any other file may also include
      what lies beside it.

  Returns:
    The absolute path.

  Raises:
    UserError: if there is no such file, or two different files have the name.
  """
  folders = [os.getcwd(), shipped_folder()]
  if beside and is_shipped(beside):
    folders = [shipped_folder()]
  elif beside:
    folders.insert(0, os.path.dirname(beside))
  name = os.path.expanduser(name)
  candidates: list[str] = []
  for folder in folders:
    path = os.path.abspath(os.path.join(folder, name))
    if os.path.isfile(path) and not any(_equal(path, c) for c in candidates):
      candidates.append(path)
  if len(candidates) > 1:
    raise errors.UserError(
        f'there are two files {name}, {" and ".join(candidates)}, and they '
        'differ; give the full path of the one you mean')
  if not candidates:
    raise errors.UserError(
        f'there is no gin file {name}, neither in {" nor in ".join(folders)}; '
        f'{nearest.hint(name, shipped_names(), "shipped files")}')
  return candidates[0]


def _equal(path: str, other: str) -> bool:
  """Returns whether two files are the same or have the same content."""
  return os.path.samefile(path, other) or read(path) == read(other)


def read(path: str) -> str:
  """Returns the text of a gin file.

  Raises:
    UserError: if it cannot be read.
  """
  try:
    with open(path, encoding='utf-8') as file:
      return file.read()
  except (OSError, UnicodeDecodeError) as error:
    raise errors.UserError(
        f'the gin file {path} cannot be read: {error}; check what it is and '
        'its permissions') from error


def naming(component: str) -> tuple[str, ...]:
  """Returns the shipped files that name a component, comments apart."""
  pattern = re.compile(
      r'^[^#\n]*(?<![\w.])' + re.escape(component) + r'(?!\w)', re.M)
  return tuple(
      name for name in shipped_names()
      if pattern.search(read(os.path.join(shipped_folder(), name))))


def binding(macro: str) -> list[str]:
  """Returns the shipped files that choose a macro, shortest name first.

  A declaration (`NAME = %gin.REQUIRED`) chooses nothing, and a preset is a
  whole configuration, not one choice.
  """
  pattern = re.compile(
      r'^' + re.escape(macro) + r'\s*=(?!\s*%gin\.REQUIRED)', re.M)
  found = [
      name for name in shipped_names()
      if not name.startswith('preset/')
      and pattern.search(read(os.path.join(shipped_folder(), name)))]
  return sorted(found, key=lambda name: (len(name), name))
