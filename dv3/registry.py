"""The registry of swappable components.

  @registry.register('core', 'rssm')
  class RSSM(tf.Module, interfaces.Core): ...

  registry.get('core', 'rssm')(token_size=64, action_size=2, deter=512)

`TABLE` maps the library's own components to their modules, which are imported
when a component is first asked for: `import dv3` stays free of TensorFlow.
"""

import importlib
from typing import Any, Callable

KINDS = (
    'encoder', 'decoder', 'core', 'head', 'loss', 'balancer', 'optimizer',
    'normalizer', 'sampler', 'transform', 'exploration', 'env', 'collector',
    'logger',
)

TABLE = {
    'encoder.dict': 'dv3.encoders.dict',
}

_components: dict[tuple[str, str], Any] = {}


def register(kind: str, name: str, *, override: bool = False) -> Callable:
  """Registers a class or factory function as component `kind`.`name`."""
  def decorator(cls):
    _components[kind, name] = cls
    import gin
    module, _, short = f'{kind}.{name}'.rpartition('.')
    gin.register(cls, name=short, module=module)
    return cls
  return decorator


def get(kind: str, name: str) -> Any:
  """Returns the registered class or factory, importing its module if needed."""
  if (kind, name) not in _components:
    importlib.import_module(TABLE[f'{kind}.{name}'])
  return _components[kind, name]


def load_plugins(plugins: tuple[str, ...]) -> None:
  """Imports plugins by module name or file path."""
  for plugin in plugins:
    importlib.import_module(plugin)
