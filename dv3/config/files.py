"""Finds gin files: shipped names and paths.

The shipped files lie in `gin_configs` inside the installed package, or in
`gin/` beside the package in a checkout.
"""

import functools
import os
import re
from collections.abc import Collection

from dv3 import errors
from dv3 import nearest

_CHOICES = ('size', 'task', 'dist')
"""Folders of files that make choices which a base leaves open. Bases, presets
and variants decide more than that."""

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
    UserError: if there is no such file, or two files have the name: equal
      ones too, which a later change of either would make different.
  """
  folders = [shipped_folder()]  # First: its name for a file counts.
  if beside is None or not is_shipped(beside):
    folders += [os.path.dirname(beside)] if beside else []
    folders.append(os.getcwd())
  name = os.path.expanduser(name)
  candidates: list[str] = []
  for folder in folders:
    path = os.path.abspath(os.path.join(folder, name))
    if os.path.isfile(path) and not any(
        os.path.samefile(path, c) for c in candidates):
      candidates.append(path)
  if len(candidates) > 1:
    raise errors.UserError(
        f'there are two files {name}, {" and ".join(candidates)}; give the '
        'full path of the one you mean')
  if not candidates:
    raise errors.UserError(
        f'there is no gin file {name}, neither in {" nor in ".join(folders)}; '
        f'{nearest.hint(name, shipped_names(), "shipped files")}')
  return candidates[0]


def read(path: str) -> str:
  """Returns the text of a gin file.

  Raises:
    UserError: if it cannot be read.
  """
  try:
    # Windows' editors begin files with a mark, which is skipped.
    with open(path, encoding='utf-8-sig') as file:
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


def binding(
    macros: Collection[str], declared: Collection[str] = ()) -> list[str]:
  """Returns the shipped files that choose macros, the best first.

  Sizes, tasks and devices only. A declaration (`NAME = %gin.REQUIRED`) chooses
  nothing.

  Args:
    macros: names that a file must bind, all of them.
    declared: names that the configuration has. Files that bind no others are
      for its base, and if there are some, they are all that is returned.
  """
  bound = {
      name: _bound(name) for name in shipped_names()
      if os.path.dirname(name) in _CHOICES}
  found = [name for name in bound if bound[name].issuperset(macros)]
  found.sort(key=lambda name: (len(name), name))
  return [name for name in found if bound[name].issubset(declared)] or found


def _bound(name: str) -> set[str]:
  """Returns the macros that a shipped file itself chooses."""
  text = read(os.path.join(shipped_folder(), name))
  return set(re.findall(r'^(\w+)\s*=(?!\s*%gin\.REQUIRED)', text, re.M))
