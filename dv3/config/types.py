"""Whether a gin value fits an annotation."""

import collections.abc
import types
import typing
from typing import Any

from dv3.config import reader

_SEQUENCES = (
    collections.abc.Sequence, collections.abc.Iterable,
    collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping)


def fits(value: Any, annotation: Any) -> bool:
  """Returns whether a value may be bound to a parameter of this annotation.

  Args:
    value: a literal that may hold `Reference` (macros are expanded; one that
      is left is a constant, which may be anything).
    annotation: an evaluated annotation.

  Returns:
    False if the value is certainly wrong. An int fits a float; a bool fits
    neither; a list is no tuple. What an evaluated reference returns is not
    known before it is called, and a class that is none of Python's own is not
    judged.
  """
  if isinstance(value, reader.Macro) or annotation in (Any, object):
    return True
  if isinstance(value, reader.Reference):
    return value.evaluate or not _is_literal_type(annotation)
  origin = typing.get_origin(annotation)
  arguments = typing.get_args(annotation)
  if origin in (typing.Union, types.UnionType):
    return any(fits(value, a) for a in arguments)
  if origin is typing.Annotated:
    return fits(value, arguments[0])
  if origin is typing.Literal:
    return value in arguments
  if annotation is None or annotation is type(None):
    return value is None
  if annotation is float:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  if annotation is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if annotation in (bool, str, bytes):
    return isinstance(value, annotation)
  kind = origin or annotation
  if kind is tuple:
    return isinstance(value, tuple) and _fits_tuple(value, arguments)
  if kind is list:
    return isinstance(value, list) and _fit_all(value, arguments)
  if kind in _SEQUENCES:
    return isinstance(value, (list, tuple)) and _fit_all(value, arguments)
  if kind in _MAPPINGS:
    return isinstance(value, dict) and (
        _fit_all(value, arguments[:1])
        and _fit_all(value.values(), arguments[1:]))
  if kind is collections.abc.Callable or kind is type:
    return False  # A literal is not callable.
  return True


def _fits_tuple(value: tuple, arguments: tuple) -> bool:
  if not arguments:
    return True
  if arguments[-1] is Ellipsis:
    return _fit_all(value, arguments[:1])
  return len(value) == len(arguments) and all(
      fits(v, a) for v, a in zip(value, arguments, strict=True))


def _fit_all(values, arguments: tuple) -> bool:
  return not arguments or all(fits(v, arguments[0]) for v in values)


def _is_literal_type(annotation: Any) -> bool:
  """Returns whether only literals fit, so that a reference cannot."""
  origin = typing.get_origin(annotation)
  if origin in (typing.Union, types.UnionType):
    return all(_is_literal_type(a) for a in typing.get_args(annotation))
  if origin is typing.Annotated:
    return _is_literal_type(typing.get_args(annotation)[0])
  plain = (int, float, bool, str, bytes, tuple, list, None, type(None))
  return origin is typing.Literal or (origin or annotation) in (
      *plain, *_MAPPINGS, *_SEQUENCES)
