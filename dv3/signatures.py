"""What a component's constructor accepts, and whether it keeps its contract.

Nothing here imports TensorFlow: classes are judged by their attributes.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from dv3 import errors
from dv3 import interfaces

FACTORY_KINDS = ('env', 'optimizer')
"""Kinds whose components may be any callable: what they build is another
library's object, so there is no class of ours to derive from."""

_FRAMEWORKS = ('tf_keras', 'keras', 'tensorflow')
_NO_DEFAULT = inspect.Parameter.empty


class Argument(NamedTuple):
  """One constructor argument of a component.

  Attributes:
    name: its keyword.
    type: its annotation as text, '' where there is none.
    default: its default as a Python literal, None where it must be given.
    given: whether the library passes it, so that gin must not.
  """

  name: str
  type: str
  default: str | None
  given: bool


def interface(kind: str) -> type | None:
  """Returns the class of `interfaces` that a kind follows, None without one."""
  return getattr(interfaces, kind.capitalize(), None)


def given(kind: str) -> tuple[str, ...]:
  """Returns the argument names that the library itself passes to a kind."""
  return getattr(interface(kind), 'CONSTRUCTOR', ())


def constructor(factory: Callable) -> Callable:
  """Returns the function whose parameters a class or factory function takes.

  The same choice as gin makes: the first `__init__` or `__new__` in the order
  of resolution.
  """
  if not inspect.isclass(factory):
    return factory
  for base in factory.__mro__:
    for name in ('__init__', '__new__'):
      if name in base.__dict__:
        return getattr(base, name)
  raise AssertionError('every class has object.__init__')


def signature(factory: Callable) -> inspect.Signature:
  """Returns the signature without `self`."""
  function = constructor(factory)
  if function in (object.__init__, object.__new__):
    return inspect.Signature()
  result = inspect.signature(function)
  if inspect.isclass(factory):
    result = result.replace(parameters=list(result.parameters.values())[1:])
  return result


def hints(factory: Callable) -> dict[str, Any]:
  """Returns the evaluated annotations of the parameters.

  An annotation that names something which exists only for type checkers cannot
  be evaluated; then nothing is known about any parameter.
  """
  function = inspect.unwrap(constructor(factory))
  try:
    return typing.get_type_hints(function)
  except (NameError, AttributeError, TypeError):
    return {}


def arguments(kind: str, factory: Callable) -> tuple[Argument, ...]:
  """Returns the constructor arguments, `**kwargs` left out."""
  return tuple(
      Argument(
          name=p.name,
          type='' if p.annotation is _NO_DEFAULT else type_text(p.annotation),
          default=None if p.default is _NO_DEFAULT else _default(p.default),
          given=p.name in given(kind))
      for p in signature(factory).parameters.values()
      if p.kind is not p.VAR_KEYWORD)


def type_text(annotation) -> str:
  """Returns an annotation as one would write it."""
  if isinstance(annotation, str):
    return annotation
  return inspect.formatannotation(annotation).replace('typing.', '')


def _default(value) -> str:
  """Returns a default as text, functions and classes by name."""
  if callable(value) and hasattr(value, '__qualname__'):
    return value.__qualname__
  return repr(value)


def check(kind: str, name: str, factory: Callable) -> None:
  """Checks signature and contract of a component.

  Args:
    kind: a kind of the registry.
    name: the component's name, for the message.
    factory: the class or factory function.

  Raises:
    UserError: if an argument cannot be passed by keyword, an argument that the
      library passes is not accepted, the class does not follow the interface
      of its kind, or leaves a required method to it.
  """
  what = f'{kind}.{name} ({getattr(factory, "__qualname__", factory)})'
  if not callable(factory):
    raise errors.UserError(f'{what} is not callable; register a class')
  if not hasattr(factory, '__qualname__'):  # As a `functools.partial`.
    raise errors.UserError(
        f'{what} has no name by which another process could find it; register '
        'a function (def) that calls it')
  base = interface(kind)
  if kind not in FACTORY_KINDS and base is not None:
    if not inspect.isclass(factory):
      raise errors.UserError(
          f'{what} is a function; components of kind {kind} are classes that '
          f'derive from dv3.interfaces.{base.__name__}')
    if not issubclass(factory, base):
      raise errors.UserError(
          f'{what} does not derive from dv3.interfaces.{base.__name__}; add '
          'it to the base classes')
    missing = [m for m in _required(base) if not _defines(factory, m)]
    if missing:
      raise errors.UserError(
          f'{what} lacks {", ".join(missing)}; dv3.interfaces.'
          f'{base.__name__} says what each must do')
  parameters = signature(factory).parameters
  for p in parameters.values():
    if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL):
      raise errors.UserError(
          f'{what} cannot take its argument {p.name!r} by keyword; gin passes '
          'every argument by keyword, so remove the / or *')
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return
  optional = getattr(base, 'OPTIONAL', ())
  refused = [
      a for a in given(kind) if a not in parameters and a not in optional]
  if refused:
    raise errors.UserError(
        f'{what} does not accept {", ".join(refused)}; the library passes '
        f'{", ".join(given(kind))} to every {kind}')


def _required(base: type) -> list[str]:
  """Returns the names of an interface's required methods."""
  return [
      attribute for attribute in dir(base)
      if getattr(getattr(base, attribute), '__required__', False)]


def _defines(cls: type, method: str) -> bool:
  """Returns whether a class or a base of its own defines a method.

  Keras layers inherit a `call` and a `build` that do nothing; they do not
  count.
  """
  for base in cls.__mro__:
    if method in base.__dict__:
      empty = _is_framework(base) and base.__name__ in ('Layer', 'Module')
      return not empty and not getattr(
          base.__dict__[method], '__required__', False)
  return False


def _is_framework(cls: type) -> bool:
  """Returns whether a class is one of Keras or TensorFlow."""
  return cls.__module__.partition('.')[0] in _FRAMEWORKS


def doc(factory: Callable) -> str:
  """Returns the factory's own docstring, without indentation."""
  return inspect.cleandoc(factory.__doc__ or '')


def accepted(factory: Callable) -> frozenset[str] | None:
  """Returns the argument names that a factory accepts, None if any.

  `**kwargs` of a class is taken to go to the next constructor in the order of
  resolution; those of a Keras Layer are known to be closed.
  """
  if not inspect.isclass(factory):
    parameters = signature(factory).parameters.values()
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return None if is_open else frozenset(p.name for p in parameters)
  names: set[str] = set()
  for base in factory.__mro__:
    if '__init__' not in base.__dict__ and '__new__' not in base.__dict__:
      continue
    if base is object:
      return frozenset(names)
    parameters = list(signature(base).parameters.values())
    names.update(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
    closed = not any(p.kind is p.VAR_KEYWORD for p in parameters)
    if closed or (base.__name__ == 'Layer' and _is_framework(base)):
      return frozenset(names)
  return None
