"""The live progress line."""

import os
import shutil
import sys
import time
from typing import IO

from dv3 import interfaces
from dv3 import registry
from dv3.loggers import values


@registry.register('logger', 'terminal')
class Terminal(interfaces.Logger):
  """Shows the run's progress on standard output.

    12,340/50,000 env steps (24 %) | 3,085 updates | return 187.4 |
    0:06:32 left | 96.1 env steps/s | 24.0 updates/s | loss 1.83

  On a terminal it is one line, rewritten in place and cut to the width;
  elsewhere a plain line now and then. A display never ends a run: if the
  output is closed or full, the logger falls silent.

  Args:
    logdir: not used.
    refresh_seconds: time between rewrites on a terminal.
    plain_seconds: time between lines elsewhere.
    stream: where to write; None for standard output.
  """

  def __init__(
      self, *, logdir: str | os.PathLike | None = None,
      refresh_seconds: float = 0.5, plain_seconds: float = 10.0,
      stream: IO[str] | None = None):
    del logdir
    self._stream = stream or sys.stdout
    try:
      self._live = self._stream.isatty()
    except (AttributeError, ValueError):  # Standard output is closed.
      self._stream, self._live = None, False
    self._interval = refresh_seconds if self._live else plain_seconds
    self._next = 0.0
    self._pending = None
    self._shown = False
    self._losses = ''

  def write(self, step, metrics):
    del step
    numbers = values.split(metrics).numbers
    losses = {
        name.removeprefix('loss/'): number for name, number in numbers.items()
        if name.startswith('loss/')}
    if 'train/loss' in numbers:  # Their weighted sum.
      losses = {'loss': numbers['train/loss']}
    if losses:
      self._losses = ' '.join(
          f'{name} {number:.4g}' for name, number in losses.items())

  def progress(self, step, status):
    self._pending = int(step), status
    now = time.monotonic()
    if now >= self._next:
      self._next = now + self._interval
      self._show()

  def close(self):
    """Shows the final state and ends the line."""
    self._show()
    if self._live and self._shown:
      self._print('\n')
      self._shown = False

  def _show(self):
    if self._pending is None:
      return
    parts = describe(*self._pending)
    if len(self._losses) <= 60:
      parts.append(self._losses)
    self._pending, self._shown = None, True
    if self._live:
      columns = shutil.get_terminal_size().columns
      self._print('\r\x1b[K' + fit(parts, columns - 1))
    else:
      self._print(fit(parts) + '\n')

  def _print(self, text):
    try:
      if self._stream:
        self._stream.write(text)
        self._stream.flush()
    except (OSError, ValueError):  # ValueError: the stream has been closed.
      self._stream = None


def describe(step: int, status: dict[str, float]) -> list[str]:
  """Returns the parts of the progress line, the most important first.

  Args:
    step: env steps.
    status: as `training.progress.Progress.status` gives it; what is not there
      is not shown.
  """
  budget = status.get('budget_env_steps')
  line = [f'{step:,} env steps']
  if budget:
    share = min(step / budget, 1.0)
    line = [f'{step:,}/{int(budget):,} env steps ({int(100 * share)} %)']
  if 'updates' in status:
    count = int(status['updates'])
    line.append(f'{count:,} update{"" if count == 1 else "s"}')
  if 'return' in status:
    line.append(f'return {status["return"]:.4g}')
  if 'seconds_left' in status:
    line.append(f'{clock(status["seconds_left"])} left')
  for name in ('env_steps', 'updates'):
    if f'{name}_per_second' in status:
      rate = status[f'{name}_per_second']
      digits = 0 if rate >= 100 else 1 if rate >= 1 else 3
      line.append(f'{rate:,.{digits}f} {name.replace("_", " ")}/s')
  return line


def fit(parts: list[str], columns: int | None = None) -> str:
  """Joins as many of the leading parts as fit into the columns."""
  line = ''
  for part in filter(None, parts):
    longer = f'{line} | {part}' if line else part
    if columns is not None and len(longer) > columns:
      return line or longer[:columns]
    line = longer
  return line


def clock(seconds: float) -> str:
  """Formats a duration: 0:06:32, or 2 days 3:04:05."""
  minutes, second = divmod(max(0, round(seconds)), 60)
  hours, minute = divmod(minutes, 60)
  days, hour = divmod(hours, 24)
  text = f'{hour}:{minute:02d}:{second:02d}'
  return f'{days} day{"s" * (days > 1)} {text}' if days else text
