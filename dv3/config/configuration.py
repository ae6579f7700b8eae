"""A checked configuration: parse, save, load."""

import dataclasses
import importlib
import json
import os
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import dv3
from dv3 import errors
from dv3 import plugins as plugins_lib
from dv3.config import checks
from dv3.config import files
from dv3.config import names
from dv3.config import reader

FILE_NAME = 'config.gin'
OPERATIVE_FILE_NAME = 'operative_config.gin'
ROOTS = ('dv3.train', 'dv3.evaluate')
"""The injection points: what they do not reach is not used."""
MODULES = (
    'dv3.training.trainer', 'dv3.training.evaluation', 'dv3.agent')
"""Where the configurables are that are no components."""


@dataclasses.dataclass(frozen=True)
class Config:
  """A checked configuration, which gin holds too.

  Attributes:
    text: every binding by its full name, canonical; gin can read it.
    sources: absolute paths of the files and the single bindings given.
    plugins: module names and paths of what was imported for it.
    unused: shipped bindings that nothing chosen uses, 'name (file:line)';
      macros apart, which a base offers to tasks.
    bindings: the bindings behind `text`.
    roots: full names of the injection points.
  """

  text: str
  sources: tuple[str, ...]
  plugins: tuple[str, ...]
  unused: tuple[str, ...]
  bindings: checks.Bindings = dataclasses.field(repr=False)
  roots: tuple[str, ...] = ROOTS

  def file_text(self) -> str:
    """Returns what `config.gin` holds: plugins as data, then the bindings."""
    data = json.dumps({
        'version': dv3.__version__, 'sources': self.sources,
        'plugins': self.plugins})
    return (
        '# Every binding of this run by its full name, written by dv3. Imports '
        'and\n# includes are refused here; plugins are asked for again.\n'
        f'{reader.RUN_DATA}{data}\n\n{self.text}')

  def value(self, selector: str, argument: str) -> Any:
    """Returns what is bound to an argument, macros expanded; None if nothing.

    Args:
      selector: the configurable's full name, for example 'dv3.train'.
      argument: its argument.
    """
    binding = self.bindings.parameters.get(('', selector, argument))
    return None if binding is None else reader.expand(
        binding.value, self.bindings.macros)

  def save(self, logdir: str) -> None:
    """Writes `config.gin` into a run directory, in place of what is there.

    Raises:
      UserError: if it cannot be written.
    """
    _write(logdir, FILE_NAME, self.file_text())


def parse(
    gin_files: Sequence[str] = (), params: Sequence[str] = (),
    plugins: Sequence[str] = (), *, roots: Sequence[str] = ROOTS,
    modules: Sequence[str] = MODULES) -> Config:
  """Parses and checks a configuration, and gives it to gin.

  Args:
    gin_files: shipped names or paths, `config.gin` of a run among them; later
      ones win.
    params: single bindings; they win over the files.
    plugins: module names or file paths to import first.
    roots: full names of the injection points; the first will be called.
    modules: what to import because it registers other configurables.

  Raises:
    UserError: for every mistake that a user can make, with its remedy.
  """
  if not gin_files and not params:
    raise errors.UserError(
        'no configuration was given; begin with '
        '--gin_file=preset/quickstart.gin')
  paths = [files.find(name) for name in gin_files]  # Before slow imports.
  _import(modules, plugins)
  bindings: list[reader.Binding] = []
  for path in paths:
    _ask_for(_read_data(path).get('plugins', ()))
    bindings += reader.read_file(path)
  bindings += [b for text in params for b in reader.read_parameter(text)]
  sources = (*paths, *params)
  return _finish(bindings, sources, roots)


def load(
    logdir: str, params: Sequence[str] = (), plugins: Sequence[str] = (), *,
    roots: Sequence[str] = ROOTS, modules: Sequence[str] = MODULES) -> Config:
  """Loads the configuration of a run directory, and gives it to gin.

  No code is loaded from the directory: imports and includes in its
  `config.gin` are refused, and plugins must be given again.

  Args:
    logdir: the run directory.
    params: single bindings that win over the run's own.
    plugins: module names or file paths to import first.
    roots: full names of the injection points; the first will be called.
    modules: what to import because it registers other configurables.

  Raises:
    UserError: if there is no configuration, or a plugin of the run was not
      given, and as `parse` does.
  """
  path = os.path.join(os.path.abspath(logdir), FILE_NAME)
  if not os.path.isfile(path):
    raise errors.UserError(
        f'{logdir} is no run directory, it has no {FILE_NAME}; check --logdir')
  data = _read_data(path)
  _import(modules, plugins)
  _ask_for(data.get('plugins', ()))
  bindings = list(reader.read_file(path, sealed=True))
  bindings += [b for text in params for b in reader.read_parameter(text)]
  sources = (*data.get('sources', ()), *params)
  return _finish(bindings, sources, roots)


def save_operative(logdir: str) -> None:
  """Writes `operative_config.gin`: the arguments that were really used.

  It says little before the first update, when few parts have been built.
  """
  parts = names.operative()
  macros, parameters = {}, {}
  for (scope, selector), arguments in parts.items():
    if selector == 'gin.macro':
      macros[scope] = arguments['value']
    elif selector != 'gin.constant':
      for argument, value in arguments.items():
        if names.is_literal(value):
          parameters[scope, selector, argument] = value
  _write(logdir, OPERATIVE_FILE_NAME, _format(macros, parameters))


def _import(modules: Iterable[str], plugins: Iterable[str]) -> None:
  for module in modules:
    importlib.import_module(module)
  plugins_lib.load(plugins)


def _finish(bindings, sources, roots) -> Config:
  """Resolves, checks and installs bindings."""
  merged = checks.merge(names.resolve(b) for b in bindings)
  checks.check_roots(merged, roots)
  checks.check_choices(merged)
  checks.check_macros(merged)
  checks.check_slots(merged)  # What it says of a component helps more.
  checks.check_types(merged)
  checks.check_arguments(merged)
  use = checks.reach(merged, roots)
  checks.check_used(merged, use)
  macros = {name: b.value for name, b in merged.macros.items()}
  parameters = {key: b.value for key, b in merged.parameters.items()}
  config = Config(
      text=_format(macros, parameters), sources=tuple(sources),
      plugins=plugins_lib.loaded(),
      unused=tuple(
          f'{b.name} ({b.where})' for b in checks.unused(merged, use)
          if b.selector),
      bindings=merged, roots=tuple(roots))
  names.install(config.text)
  return config


def _format(macros: dict[str, Any], parameters: dict[tuple, Any]) -> str:
  """Returns bindings as gin text: macros, then a block for each part."""
  lines = [f'{name} = {macros[name]!r}' for name in sorted(macros)]
  last = None
  for scope, selector, argument in sorted(
      parameters, key=lambda key: (key[1], key[0], key[2])):
    if (scope, selector) != last:
      lines.append('')
      last = scope, selector
    prefix = f'{scope}/{selector}' if scope else selector
    value = parameters[scope, selector, argument]
    lines.append(f'{prefix}.{argument} = {value!r}')
  return '\n'.join(lines).lstrip('\n') + '\n'


def _read_data(path: str) -> dict[str, Any]:
  """Returns what a run's `config.gin` records as data, {} of other files."""
  text = reader.run_data(files.read(path))
  if text is None:
    return {}
  try:
    return json.loads(text)
  except ValueError as error:
    raise errors.UserError(
        f'{path}: the line {reader.RUN_DATA!r} is damaged; restore it from a '
        "checkpoint's copy") from error


def _ask_for(recorded: Iterable[str]) -> None:
  """Raises UserError if a plugin of a run was not given.

  A file may have moved: its name counts, not its folder.
  """
  present = {os.path.basename(p) for p in plugins_lib.loaded()}
  missing = [p for p in recorded if os.path.basename(p) not in present]
  if missing:
    flags = ' '.join(f'--plugin={p}' for p in missing)
    raise errors.UserError(
        'this run was made with plugins, and loading a run executes no code '
        f'that it names; give them again: {flags}')


def _write(logdir: str, name: str, text: str) -> None:
  """Writes a file beside and renames it, so that it is never half."""
  path = os.path.join(logdir, name)
  try:
    os.makedirs(logdir, exist_ok=True)
    with open(f'{path}.new', 'w', encoding='utf-8') as file:
      file.write(text)
    os.replace(f'{path}.new', path)
  except OSError as error:
    raise errors.UserError(
        f'{path} cannot be written: {error.strerror}; free space, or choose '
        'another --logdir') from error
