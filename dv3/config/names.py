"""Resolves what a configuration names: configurables and their arguments.

All access to gin's registry of names is here; gin has no public way to ask
which configurable a name means.
"""

import dataclasses
import inspect
from collections.abc import Callable

import gin
from gin import config as gin_config

from dv3 import errors
from dv3 import nearest
from dv3 import registry
from dv3 import signatures
from dv3.config import reader


def resolve(binding: reader.Binding) -> reader.Binding:
  """Returns a binding with full names, importing the components it names.

  Raises:
    UserError: if a configurable or argument does not exist (with the nearest
      names), or the library itself passes the argument.
  """
  try:
    value = reader.transform(binding.value, _resolve_reference)
    if not binding.selector:
      return dataclasses.replace(binding, value=value)
    selector = full_name(binding.selector)
    _check_argument(selector, binding.argument)
  except errors.UserError as error:
    raise errors.UserError(f'{binding.where}: {error}') from error
  return dataclasses.replace(binding, selector=selector, value=value)


def _resolve_reference(value):
  if not isinstance(value, reader.Reference):
    return value
  return dataclasses.replace(value, selector=full_name(value.selector))


def split(selector: str) -> tuple[str, str] | None:
  """Returns (kind, name) if a selector has a component's form, else None."""
  kind, _, name = selector.partition('.')
  return (kind, name) if kind in registry.KINDS and name else None


def full_name(selector: str) -> str:
  """Returns the full name of a configurable, importing it if necessary."""
  component = split(selector)
  if component:
    registry.get(*component)
    return selector
  matches = gin_config._REGISTRY.matching_selectors(selector)
  if len(matches) == 1 and not split(matches[0]):
    return matches[0]
  if matches:
    raise errors.UserError(
        f'{selector!r} is not a full name; write {" or ".join(sorted(matches))}'
    )
  known = [
      f'{kind}.{name}' for kind in registry.KINDS
      for name in registry.names(kind)]
  known += [
      s.rpartition('.')[2] for s, _ in gin_config._REGISTRY.items()
      if not split(s) and not s.startswith('gin.')]
  raise errors.UserError(
      f'there is no configurable named {selector!r}; '
      f'{nearest.hint(selector, known, "known")}')


def factory(selector: str) -> Callable:
  """Returns the class or function behind a full name."""
  component = split(selector)
  if component:
    return registry.get(*component)
  return gin_config._REGISTRY[selector].wrapped


def default(selector: str, argument: str):
  """Returns an argument's default; `inspect.Parameter.empty` without one."""
  parameters = signatures.signature(factory(selector)).parameters
  if argument not in parameters:
    return inspect.Parameter.empty
  return parameters[argument].default


def _check_argument(selector: str, argument: str) -> None:
  accepted = signatures.accepted(factory(selector))
  component = split(selector)
  given = signatures.given(component[0]) if component else ()
  if accepted is not None and argument not in accepted:
    own = set(accepted) - set(given) - {'self'}
    raise errors.UserError(
        f'{selector} has no argument {argument!r}; '
        f'{nearest.hint(argument, own, "its arguments")}')


def is_given(selector: str, argument: str) -> bool:
  """Returns whether the library itself passes an argument.

  For what is no component, gin's denylist says so.
  """
  component = split(selector)
  if component:
    return argument in signatures.given(component[0])
  return argument in (gin_config._REGISTRY[selector].denylist or ())


def required(selector: str) -> list[str]:
  """Returns the arguments that only a configuration can give."""
  parameters = signatures.signature(factory(selector)).parameters.values()
  return [
      p.name for p in parameters
      if p.default is p.empty and p.kind is not p.VAR_KEYWORD
      and not is_given(selector, p.name)]


def is_constant(macro: str) -> bool:
  """Returns whether a macro's name is that of a gin constant."""
  return bool(gin_config._CONSTANTS.matching_selectors(macro))


def install(text: str) -> None:
  """Gives gin a canonical text, in place of what it held, and locks it."""
  gin.clear_config()
  gin.parse_config(text)
  gin.finalize()


def operative() -> dict[tuple[str, str], dict[str, object]]:
  """Returns a copy of gin's record of the arguments used so far."""
  with gin_config._OPERATIVE_CONFIG_LOCK:
    return {k: dict(v) for k, v in gin_config._OPERATIVE_CONFIG.items()}


def is_literal(value) -> bool:
  """Returns whether gin can read a value's representation again."""
  try:
    return bool(gin_config.parse_value(repr(value)) == value)
  except (SyntaxError, ValueError, TypeError, KeyError):
    return False
