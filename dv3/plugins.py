"""Third-party components: entry points, modules and files.

An installed package announces its components in the entry point group
`dv3.components`, with keys such as `core.vendor.name`. They are listed without
importing anything; a package is imported when one of its components is asked
for. One-off code needs no packaging: `load` imports a module by its name or a
file by its path.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
import warnings
from collections.abc import Iterable

from dv3 import errors

GROUP = 'dv3.components'
FILE_PREFIX = 'dv3_plugin_'
"""What the module names of file plugins begin with."""

_loaded: dict[str, str] = {}


def loaded() -> tuple[str, ...]:
  """Returns the plugins loaded so far: module names and absolute paths."""
  return tuple(_loaded)


def load(plugins: Iterable[str]) -> None:
  """Imports plugins and remembers them; one loaded already is left alone.

  Args:
    plugins: module names (`package.module`) or file paths (`path/to/file.py`).

  Raises:
    UserError: if a plugin does not exist or its import fails.
  """
  for plugin in plugins:
    is_file = plugin.endswith('.py') or os.sep in plugin
    plugin = os.path.abspath(os.path.expanduser(plugin)) if is_file else plugin
    if plugin in _loaded:
      continue
    try:
      name = _import_file(plugin) if is_file else _import_module(plugin)
    except errors.UserError as error:
      raise errors.UserError(f'plugin {plugin}: {error}') from error
    # A script without `if __name__ == '__main__'` may end in sys.exit.
    except (Exception, SystemExit) as error:
      raise errors.UserError(
          f'plugin {plugin} cannot be imported: {type(error).__name__}: '
          f'{error}; mend it, or see the traceback with --debug') from error
    _loaded[plugin] = name


def _import_module(name: str) -> str:
  try:
    importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
      raise  # The plugin exists; something that it imports does not.
    raise errors.UserError(
        f'there is no module {error.name}; install it, add its folder to '
        'PYTHONPATH, or give the path of a .py file') from error
  return name


def _import_file(path: str) -> str:
  if not os.path.isfile(path):
    raise errors.UserError('there is no such file; check the path')
  stem = os.path.splitext(os.path.basename(path))[0]
  digest = hashlib.sha256(path.encode()).hexdigest()[:8]
  name = f'{FILE_PREFIX}{stem}_{digest}'
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise errors.UserError('the file is not Python; its name must end in .py')
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return name


def entry_points() -> dict[str, list[importlib.metadata.EntryPoint]]:
  """Returns the announced components, `kind.vendor.name` -> entry points.

  More than one entry point under a key is a conflict between packages, which
  matters only to who asks for that component. Nothing is imported.
  """
  found: dict[str, list[importlib.metadata.EntryPoint]] = {}
  for point in importlib.metadata.entry_points(group=GROUP):
    points = found.setdefault(point.name, [])
    if point.value not in [p.value for p in points]:
      points.append(point)
  return found


def load_entry_point(key: str):
  """Imports what an entry point names.

  Args:
    key: `kind.vendor.name`, a key of `entry_points()`.

  Returns:
    The module or object that the entry point names.

  Raises:
    UserError: if its import fails (the traceback is shown as a warning), or
      two packages announce the same component.
  """
  points = entry_points()[key]
  if len(points) > 1:
    origins = ' and '.join(f'{package(p)} ({p.value})' for p in points)
    raise errors.UserError(
        f'{key} is announced by {origins}; uninstall one of them')
  point = points[0]
  try:
    return point.load()
  except (Exception, SystemExit) as error:
    warnings.warn(
        f'the plugin {package(point)} ({point.value}) is broken:\n'
        f'{traceback.format_exc()}', RuntimeWarning, stacklevel=2)
    raise errors.UserError(
        f'{key} comes from the installed package {package(point)}, whose '
        f'import fails: {type(error).__name__}: {error}; mend or uninstall '
        'it') from error


def package(point: importlib.metadata.EntryPoint) -> str:
  """Returns the name of the package that an entry point belongs to."""
  return point.dist.name if point.dist else 'an unnamed package'


def extra_of(module: str) -> str | None:
  """Returns the extra of dv3 that installs a module, from our own metadata."""
  wanted = module.partition('.')[0].replace('_', '-').lower()
  for requirement in _metadata('Requires-Dist'):
    named, _, marker = requirement.partition(';')
    digits = [c if c.isalnum() or c in '-_.' else ' ' for c in named.strip()]
    found = ''.join(digits).split()[0].replace('_', '-').lower()
    if found == wanted and 'extra ==' in marker:
      return marker.split('extra ==')[1].strip().strip('\'")( ')
  return None


def extras() -> tuple[str, ...]:
  """Returns the names of all extras of dv3; none where it is not installed."""
  return _metadata('Provides-Extra')


def _metadata(field: str) -> tuple[str, ...]:
  try:
    return tuple(importlib.metadata.metadata('dv3').get_all(field) or ())
  except importlib.metadata.PackageNotFoundError:
    return ()
