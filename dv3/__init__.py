"""dv3: DreamerV3 in TensorFlow, as components and a trainer.

Public names are loaded when first used, so that environment workers can import
`dv3` without loading TensorFlow.
"""

import importlib

_NAMES = {
    'describe': 'dv3.registry',
    'get': 'dv3.registry',
    'names': 'dv3.registry',
    'register': 'dv3.registry',
    'Agent': 'dv3.agent',
    'UserError': 'dv3.errors',
}

_MODULES = ('interfaces', 'types')
"""What parts of one's own need besides; neither loads TensorFlow."""

__version__ = '0.1.0'
__all__ = sorted(  # pyright: ignore[reportUnsupportedDunderAll]
    [*_NAMES, *_MODULES])


def __getattr__(name):
  if name in _MODULES:
    return importlib.import_module(f'dv3.{name}')
  if name not in _NAMES:
    raise AttributeError(f'module dv3 has no attribute {name!r}')
  return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__():
  return sorted([*globals(), *__all__])
