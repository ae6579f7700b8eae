"""Imports of optional packages, with an error that names their extra."""

import importlib
from typing import Any

from dv3 import errors


def load(module: str, component: str, extra: str) -> Any:
  """Imports a module of an optional package.

  Args:
    module: its name.
    component: who needs it, for example 'env.dmc'.
    extra: of dv3, which installs it.

  Raises:
    UserError: if it is not installed, or cannot be imported.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise errors.UserError(
        f'{component} needs {module}, which cannot be imported ({error}); '
        f'{errors.pip_install(f"dv3[{extra}]")}') from error
