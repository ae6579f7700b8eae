"""Reads gin text into bindings, without touching gin's own state.

gin's parser yields the statements. References and macros stay symbols here, so
that a configuration can be checked as a whole before gin sees any of it.
"""

import dataclasses
import importlib
import tokenize
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from gin import config_parser

from dv3 import errors
from dv3 import plugins
from dv3.config import files

REQUIRED = 'gin.REQUIRED'
"""The constant that a declared but unmade choice is bound to."""

RUN_DATA = '# dv3: '
"""Begins the header line in which dv3 records data in a run's file."""


@dataclasses.dataclass(frozen=True)
class Reference:
  """`@scope/selector` or, evaluated, `@scope/selector()`."""

  scope: str
  selector: str
  evaluate: bool

  def __repr__(self):
    scope = f'{self.scope}/' if self.scope else ''
    return f'@{scope}{self.selector}{"()" if self.evaluate else ""}'


@dataclasses.dataclass(frozen=True)
class Macro:
  """`%NAME`."""

  name: str

  def __repr__(self):
    return f'%{self.name}'


@dataclasses.dataclass(frozen=True)
class Binding:
  """One line of a configuration.

  Attributes:
    scope: gin scope, '' for none.
    selector: the configurable, '' for a macro.
    argument: its argument, or the name of the macro.
    value: a literal that may contain `Reference` and `Macro`.
    where: where it stands, for messages.
    ours: whether it stands in a shipped file, or in that of a run, so that
      nobody is blamed if nothing uses it.
    from_flag: whether it was given on the command line.
  """

  scope: str
  selector: str
  argument: str
  value: Any
  where: str
  ours: bool
  from_flag: bool

  @property
  def key(self) -> tuple[str, str, str]:
    """What a later binding replaces."""
    return self.scope, self.selector, self.argument

  @property
  def name(self) -> str:
    """The left side, as one writes it."""
    scope = f'{self.scope}/' if self.scope else ''
    selector = f'{self.selector}.' if self.selector else ''
    return f'{scope}{selector}{self.argument}'


class _Delegate(config_parser.ParserDelegate):
  """Makes symbols of references and macros."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    scope, _, selector = scoped_configurable_name.rpartition('/')
    return Reference(scope, selector, evaluate)

  def macro(self, macro_name):
    return Macro(macro_name)


def run_data(text: str) -> str | None:
  """Returns the JSON in the header of a run's file, None in any other."""
  for line in text.splitlines():
    if line.startswith(f'{RUN_DATA}{{'):
      return line.removeprefix(RUN_DATA)
    if not line.startswith('#'):
      break
  return None


def read_file(path: str, *, sealed: bool = False) -> Iterator[Binding]:
  """Yields the bindings of a file and of what it includes, in order.

  Args:
    path: absolute path.
    sealed: whether imports and includes are refused, as they are in any file
      that dv3 wrote for a run.

  Raises:
    UserError: at a syntax error, a missing include, a failing import.
  """
  yield from _read(
      files.read(path), files.label(path), path, sealed, (path,))


def read_parameter(text: str) -> Iterator[Binding]:
  """Yields the bindings of one --gin_param."""
  yield from _read(text, f'--gin_param={text!r}', None, False, ())


def _read(
    text: str, label: str, path: str | None, sealed: bool,
    chain: tuple[str, ...]) -> Iterator[Binding]:
  """Yields the bindings of a text; `chain` holds the files being included."""
  sealed = sealed or run_data(text) is not None
  ours = sealed or (path is not None and files.is_shipped(path))
  for statement in _statements(text, label, path is not None):
    where = f'{label}:{statement.location.line_num}' if path else label
    if isinstance(statement, config_parser.BindingStatement):
      yield _binding(statement, where, ours, path is None)
    elif isinstance(statement, config_parser.BlockDeclaration):
      pass  # Its bindings follow as statements of their own.
    elif sealed:
      raise errors.UserError(
          f'{where}: imports and includes are refused in a run directory, '
          'because loading a run executes no code from it; remove the line '
          'and give --plugin or --gin_file instead')
    elif isinstance(statement, config_parser.ImportStatement):
      _located(where, lambda s=statement: _import(s))
    else:
      found = _located(
          where, lambda s=statement: files.find(s.filename, beside=path))
      if found in chain:
        raise errors.UserError(
            f'{where}: {statement.filename} includes itself; remove the line')
      yield from _read(
          files.read(found), files.label(found), found, sealed,
          (*chain, found))


def _statements(text: str, label: str, is_file: bool) -> Iterator[Any]:
  """Yields gin's statements; syntax errors become one line."""
  try:
    yield from config_parser.ConfigParser(text, _Delegate())
  except (
      SyntaxError, tokenize.TokenError, TypeError, ValueError,
      RecursionError) as error:
    number = getattr(error, 'lineno', None)
    line = f':{number}' if number else ''
    cause = str(error.args[0]).strip().replace('\n', ' ')
    if 'Failed to parse token' in cause:
      token = cause.rpartition('Failed to parse token')[2].strip()
      cause = f'{token} is no value; a string needs quotes, a reference @'
    raise errors.UserError(
        f'{label}{line if is_file else ""}: {cause} (gin lines read '
        "`name.argument = value`, `MACRO = value` or `include 'file.gin'`)"
        ) from error


def _binding(
    statement, where: str, ours: bool, from_flag: bool) -> Binding:
  """Returns a statement as a Binding; macros have no selector."""
  scope, selector, argument = (
      statement.scope, statement.selector, statement.arg_name)
  if not argument:
    name = f'{scope}/{selector}' if scope else selector
    return Binding('', '', name, statement.value, where, ours, from_flag)
  if selector in ('macro', 'gin.macro') and argument == 'value':
    return Binding('', '', scope, statement.value, where, ours, from_flag)
  return Binding(
      scope, selector, argument, statement.value, where, ours, from_flag)


def _import(statement) -> None:
  """Imports what a gin file asks for and remembers it as a plugin."""
  module = statement.module
  if module.startswith('__gin__.'):
    raise errors.UserError(
        f'{module} is not supported; register the component with '
        '@dv3.register and import its module')
  if module.partition('.')[0] == 'dv3':
    try:
      importlib.import_module(module)
    except ImportError as error:
      raise errors.UserError(
          f'cannot import {module}: {error}; dv3 has no such module') from error
  else:
    plugins.load([module])


def _located(where: str, function: Callable):
  """Calls a function; errors of the user's are told with their place."""
  try:
    return function()
  except errors.UserError as error:
    raise errors.UserError(f'{where}: {error}') from error


def transform(value: Any, function: Callable[[Any], Any]) -> Any:
  """Returns a value with `function` applied to its leaves."""
  if isinstance(value, (list, tuple)):
    return type(value)(transform(v, function) for v in value)
  if isinstance(value, dict):
    return {
        transform(k, function): transform(v, function)
        for k, v in value.items()}
  return function(value)


def leaves(value: Any) -> Iterator[Any]:
  """Yields the leaves of a value, keys of dictionaries too."""
  if isinstance(value, (list, tuple)):
    for v in value:
      yield from leaves(v)
  elif isinstance(value, dict):
    for k, v in value.items():
      yield from leaves(k)
      yield from leaves(v)
  else:
    yield value


def expand(
    value: Any, macros: dict[str, Binding], chain: tuple[str, ...] = ()) -> Any:
  """Returns a value with macros replaced by theirs; constants stay.

  Raises:
    UserError: if a macro refers to itself; `chain` holds those being replaced.
  """
  def leaf(x):
    if not isinstance(x, Macro) or x.name not in macros:
      return x
    if x.name in chain:
      raise errors.UserError(
          f'{macros[x.name].where}: the macro {x.name} refers to itself; give '
          'it a value')
    return expand(macros[x.name].value, macros, (*chain, x.name))
  return transform(value, leaf)
