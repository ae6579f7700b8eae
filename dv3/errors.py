"""Errors that a user can cause: one line with the cause and the remedy."""

import shlex
import sys


class UserError(Exception):
  """An error that the user can cause and mend.

  Every binary prints its message as one line and exits with code 2, without a
  traceback unless `--debug` is given. The message names cause and remedy.
  """

  def __init__(self, message: str):
    super().__init__(' '.join(str(message).split()))


def pip_install(package: str) -> str:
  """Returns the command that installs a package where this program runs.

  `pip` by itself may be that of another Python. It leaves dv3 as it is
  installed where `package` is an extra of it, 'dv3[dmc]'.
  """
  return f'{shlex.quote(sys.executable)} -m pip install "{package}"'


def check_least(least: float, numbers: dict[str, float]) -> None:
  """Refuses numbers below the least that makes sense.

  Args:
    least: the least of them all.
    numbers: {what the user sets: value}.

  Raises:
    UserError: naming the first one that is smaller.
  """
  for name, value in numbers.items():
    if not value >= least:
      raise UserError(f'{name} is {value}; it is at least {least}')


def check_above(low: float, numbers: dict[str, float]) -> None:
  """Refuses numbers that are not above `low`; see `check_least`."""
  for name, value in numbers.items():
    if not value > low:
      raise UserError(f'{name} is {value}; it is above {low}')


def check_within(
    low: float, high: float, numbers: dict[str, float], *,
    below: bool = False) -> None:
  """Refuses numbers outside of [low, high].

  Args:
    low: the least of them all.
    high: the largest.
    numbers: {what the user sets: value}.
    below: whether `high` itself is refused too.

  Raises:
    UserError: naming the first one that is outside.
  """
  for name, value in numbers.items():
    if not low <= value <= high or below and value == high:
      end = ')' if below else ']'
      raise UserError(f'{name} is {value}; it is in [{low}, {high}{end}')


def named(component: str, **numbers: float) -> dict[str, float]:
  """Returns {'component.argument': value}, what the user sets, for checks."""
  return {f'{component}.{key}': value for key, value in numbers.items()}
