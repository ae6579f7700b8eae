"""Configurations: found, parsed, checked, saved, compared.

  configuration = config.parse(['preset/cartpole.gin'], ['STEPS = 1000'])
  configuration.save(logdir)             # config.gin
  config.save_operative(logdir)          # operative_config.gin, after an update
  config.load(logdir)                    # the same bindings again

gin holds the bindings afterwards, locked; a process has one configuration.
"""

from dv3.config.configuration import FILE_NAME
from dv3.config.configuration import Config
from dv3.config.configuration import load
from dv3.config.configuration import parse
from dv3.config.configuration import save_operative
from dv3.config.resume import Difference
from dv3.config.resume import compare
from dv3.config.resume import require_resumable

__all__ = [
    'FILE_NAME', 'Config', 'Difference', 'compare', 'load', 'parse',
    'require_resumable', 'save_operative',
]
