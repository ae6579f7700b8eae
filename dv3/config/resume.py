"""Which bindings may change when a run is resumed."""

import fnmatch
import inspect
from typing import Any
from typing import NamedTuple

from dv3 import errors
from dv3.config import checks
from dv3.config import configuration
from dv3.config import names
from dv3.config import reader

MAY_CHANGE = {
    'train.env_steps': (
        'the budget; with train.scaling also how long the rates stay low at '
        'first, a tenth of all updates'),
    'train.*_every_seconds': 'intervals of checkpoints, metrics and videos',
    'train.keep_checkpoints': 'how many checkpoints stay',
    'train.loggers': 'where metrics go',
    'logger.*': 'how metrics are written',
    'collector.*.num_envs': 'the number of environments',
    'collector.*.hang_seconds': 'when an environment hangs',
    'collector.*.max_restarts': 'how often environments may fail in a row',
    'train.max_bad_updates': 'how many updates in a row may not be finite',
    'train.seed': 'the seed: draws from here on differ',
    'train.distribution': 'the devices, of one process: no other result',
    'train.replicas': 'the number of devices: likewise, without train.scaling',
    'train.jit_compile': 'compilation: it changes rounding only',
    'train.steps_per_loop': 'how many updates the device is given at once',
    'train.exploration': 'what changes the actions of the policy',
    'exploration.*': 'how they are changed',
    'evaluate.*': 'evaluation, which training does not see',
}
"""Patterns of parameters that may change, and what they are. `docs/resume.md`
shows this table; everything else is refused with the difference."""


_SCALED = ('train.distribution', 'train.replicas')
"""What changes batches and rates where there is a `train.scaling`."""


class Difference(NamedTuple):
  """One parameter that differs between two configurations.

  Attributes:
    name: its full name, without gin's module of `train` and `evaluate`.
    old: its value in the first as gin text, macros expanded; a default where
      nothing binds it, 'unset' where the part is not used or has no default.
    new: its value in the second.
    allowed: whether it may change on resume.
  """

  name: str
  old: str
  new: str
  allowed: bool


def compare(
    old: configuration.Config, new: configuration.Config) -> list[Difference]:
  """Returns how two configurations differ, sorted by name.

  Only parameters count that what is chosen uses, and only by what they amount
  to: macros are expanded, and a default is the same as a binding of its value.
  """
  before, after = _effective(old), _effective(new)
  result = []
  for key in sorted(before.keys() | after.keys()):
    values = [
        side[key] if key in side else _default(key)
        for side in (before, after)]
    if not _same(*values):
      name = _name(key)
      was, now = (
          'unset' if x is inspect.Parameter.empty else repr(x) for x in values)
      allowed = _may_change(name, [was, now]) and not (
          name in _SCALED and _is_scaled(before))
      result.append(Difference(name, was, now, allowed))
  return result


def require_resumable(
    old: configuration.Config, new: configuration.Config) -> None:
  """Raises UserError if a run of `old` cannot go on with `new`."""
  refused = [d for d in compare(old, new) if not d.allowed]
  if refused:
    listed = '; '.join(f'{d.name} was {d.old}, is {d.new}' for d in refused)
    raise errors.UserError(
        f'the run was made by another configuration: {listed}. Choose another '
        '--logdir, or leave these as they were (docs/resume.md lists what may '
        'change)')


def _effective(config: configuration.Config) -> dict[tuple, object]:
  """Returns the expanded values of the parameters that are used."""
  bindings = config.bindings
  use = checks.reach(bindings, config.roots)
  idle = {b.key for b in checks.unused(bindings, use)}
  return {
      key: reader.expand(b.value, bindings.macros)
      for key, b in bindings.parameters.items() if key not in idle}


def _is_scaled(parameters: dict[tuple, object]) -> bool:
  return parameters.get(('', 'dv3.train', 'scaling')) is not None


def _default(key: tuple[str, str, str]) -> Any:
  _, selector, argument = key
  return names.default(selector, argument)


def _same(a: Any, b: Any) -> bool:
  """Whether values amount to the same: 1 and 1.0 do, 1 and True do not."""
  if isinstance(a, dict) and isinstance(b, dict):
    return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
  if isinstance(a, (list, tuple)) and type(a) is type(b):
    return len(a) == len(b) and all(map(_same, a, b))
  numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
  if numbers and not isinstance(a, bool) and not isinstance(b, bool):
    return a == b
  return repr(a) == repr(b)


def _name(key: tuple[str, str, str]) -> str:
  scope, selector, argument = key
  prefix = f'{scope}/' if scope else ''
  return f'{prefix}{selector.removeprefix("dv3.")}.{argument}'


def _may_change(name: str, values: list[str]) -> bool:
  bare = name.rpartition('/')[2]
  # Each of several workers has a shard of replay of its own.
  if bare == 'train.distribution' and "'multiworker'" in values:
    return False
  return any(fnmatch.fnmatchcase(bare, pattern) for pattern in MAY_CHANGE)
