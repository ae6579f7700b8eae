"""What gin calls for components that are built in worker processes.

Bindings do not survive in spawned processes, so there gin does not build the
component: it collects the resolved arguments into a picklable Recipe.
"""

from collections.abc import Callable
from typing import Any

from dv3 import errors
from dv3 import plugins
from dv3 import signatures
from dv3 import types


def function(kind: str, name: str, factory: Callable) -> Callable:
  """Returns a function of a factory's signature that returns its Recipe."""
  signature = signatures.signature(factory)

  def recipe(**kwargs):
    missing = [
        p.name for p in signature.parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
        and p.name not in kwargs]
    if missing:
      raise errors.UserError(
          f'{kind}.{name} needs {", ".join(missing)}; bind it, for example '
          f"--gin_param='{kind}.{name}.{missing[0]} = ...'")
    return make(kind, name, factory, kwargs)

  # Not functools.wraps: gin would look through `__wrapped__`, at the class.
  for attribute in ('__module__', '__name__', '__qualname__', '__doc__'):
    setattr(recipe, attribute, getattr(factory, attribute))
  setattr(recipe, '__signature__', signature)  # noqa: B010
  return recipe


def make(
    kind: str, name: str, factory: Callable,
    kwargs: dict[str, Any]) -> types.Recipe:
  """Returns the recipe of a component, with the plugins that it takes."""
  loaded = plugins.loaded()
  module = factory.__module__
  root = module.partition('.')[0]
  if root == 'dv3':
    return types.Recipe(kind, name, kwargs, (), loaded)
  known = root in ('__main__', '__mp_main__') or module in loaded
  if known or module.startswith(plugins.FILE_PREFIX):
    return types.Recipe(kind, name, kwargs, loaded)
  return types.Recipe(kind, name, kwargs, (*loaded, module))
