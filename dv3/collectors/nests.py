"""Nests of arrays, without TensorFlow."""

from typing import Any

import numpy as np


def leaves(nest: Any) -> list[np.ndarray]:
  """Returns the arrays of a nest of tuples, lists and dictionaries."""
  if isinstance(nest, dict):
    return [x for key in sorted(nest) for x in leaves(nest[key])]
  if isinstance(nest, tuple | list):
    return [x for item in nest for x in leaves(item)]
  return [np.asarray(nest)]


def pack(like: Any, values: list[np.ndarray]) -> Any:
  """Returns a nest of the structure of `like` with other arrays."""
  rest = iter(values)
  def build(nest):
    if isinstance(nest, dict):
      built = {key: build(nest[key]) for key in sorted(nest)}
      return {key: built[key] for key in nest}
    if isinstance(nest, tuple) and hasattr(nest, '_fields'):
      return type(nest)(*(build(x) for x in nest))
    if isinstance(nest, tuple | list):
      return type(nest)(build(x) for x in nest)
    return next(rest)
  return build(like)


def alike(nest: Any, other: Any) -> bool:
  """Whether two nests have one type and keys, and arrays of one form."""
  forms = [[(x.shape, x.dtype) for x in leaves(n)] for n in (nest, other)]
  if type(nest) is not type(other) or forms[0] != forms[1]:
    return False
  return not isinstance(nest, dict) or nest.keys() == other.keys()
