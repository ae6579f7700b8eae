"""The cost of an update against the size of the model or the batch."""

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from dv3 import errors
from dv3.config import files

_SHAPE = re.compile(r'(\d+)x(\d+)')
_BLUE, _GREY, _INK = '#1f5fa8', '#8a8a8a', '#333333'
_STYLE: Any = {
    'font.size': 11, 'axes.titlesize': 12.5, 'axes.labelsize': 11,
    'legend.fontsize': 9.5, 'axes.edgecolor': '#999999',
    'axes.labelcolor': _INK, 'text.color': _INK, 'xtick.color': _INK,
    'ytick.color': _INK, 'font.family': 'DejaVu Sans'}


def parse(points: Sequence[str]) -> list[tuple[str, list[str]]]:
  """Turns points such as '12m' or '16x64' into flags.

  Returns:
    [(label, flags of `dv3-bench update`)].

  Raises:
    UserError: for what is neither a shipped size nor a batch shape.
  """
  result = []
  for point in points:
    if shape := _SHAPE.fullmatch(point):
      size, length = shape.groups()
      result.append((point, [
          f'--gin_param=train.batch_size = {size}',
          f'--gin_param=train.batch_length = {length}']))
    elif f'size/{point}.gin' in files.shipped_names():
      result.append((point, [f'--gin_file=size/{point}.gin']))
    else:
      sizes = [
          name.removeprefix('size/').removesuffix('.gin')
          for name in files.shipped_names() if name.startswith('size/')]
      raise errors.UserError(
          f'--sweep={point} is neither a batch shape (16x64: sequences x '
          f'steps) nor one of the sizes {", ".join(sizes)}')
  return result


def measure(
    points: Sequence[str], arguments: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """Measures every point in a process of its own, in the given order.

  SIGTERM exits as Ctrl-C does, so that the point's process is ended too.

  Args:
    points: sizes or batch shapes, see `parse`.
    arguments: further flags of `dv3-bench update`.

  Yields:
    {'label', ... as `update` prints} of each point when it is done.

  Raises:
    UserError: if a point cannot be measured, with its own reason.
    SystemExit: at SIGTERM.
  """
  with _exiting():
    for label, flags in parse(points):
      done = subprocess.run(
          [sys.executable, '-m', 'dv3.bin.bench', 'update', '--json',
           *arguments, *flags], text=True, capture_output=True, check=False)
      if done.returncode:
        lines = done.stderr.strip().splitlines() or ['no message']
        raise errors.UserError(f'--sweep={label}: {lines[-1]}')
      yield {
          'label': label, **json.loads(done.stdout.strip().splitlines()[-1])}


@contextlib.contextmanager
def _exiting():
  """Raises SystemExit at SIGTERM, in this context."""
  def leave(number, frame):
    del frame
    sys.exit(128 + number)  # What a shell reports.
  old = signal.signal(signal.SIGTERM, leave)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, old)


def describe(row: dict[str, Any]) -> str:
  """Words a point for people."""
  return (
      f'{row["label"]}: {row["seconds"]:.4g} s, {row["gflop"]:.4g} GFLOP, '
      f'{row["share_of_ceiling"]:.1%} of the ceiling')


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """Puts measured points together.

  Returns:
    {'points': the rows, 'exponent': slope of log seconds against log GFLOP; 1
    is proportional, None for one point}.
  """
  exponent = None
  if len({row['gflop'] for row in rows}) > 1:
    exponent = float(np.polyfit(
        np.log([row['gflop'] for row in rows]),
        np.log([row['seconds'] for row in rows]), 1)[0])
  return {'points': rows, 'exponent': exponent}


def load_matplotlib() -> Any:
  """Returns the module `matplotlib`.

  Raises:
    UserError: if it is not installed.
  """
  try:
    import matplotlib
    import matplotlib.figure
  except ImportError as error:
    raise errors.UserError(
        'a picture of a sweep needs matplotlib; install the extra: '
        f'{errors.pip_install("dv3[report]")}') from error
  return matplotlib


def draw(result: dict[str, Any]) -> bytes:
  """Draws seconds an update against GFLOP, beside the machine's ceiling.

  Returns:
    A PNG file's bytes.

  Raises:
    UserError: if matplotlib is not installed.
  """
  matplotlib = load_matplotlib()
  rows = sorted(result['points'], key=lambda row: row['gflop'])
  gflop = np.array([row['gflop'] for row in rows])
  seconds = np.array([row['seconds'] for row in rows])
  ceiling = np.array([row['ceiling_gflops'] for row in rows])
  with matplotlib.rc_context(_STYLE):
    figure = matplotlib.figure.Figure((5.2, 3.6), layout='constrained')
    axes: Any = figure.subplots()
    axes.loglog(
        gflop, seconds, 'o-', color=_BLUE, linewidth=1.8,
        label=f'dv3, {rows[0]["dtype"]}')
    axes.loglog(
        gflop, gflop / ceiling, '--', color=_GREY, linewidth=1.5,
        label='all at the ceiling of matrix products')
    for row in rows:
      axes.annotate(
          row['label'], (row['gflop'], row['seconds']), (4, -12),
          textcoords='offset points', fontsize=9.5)
    axes.set_xlabel('model GFLOP an update')
    axes.set_ylabel('seconds an update')
    axes.set_title(
        f'{rows[0]["device"]}, {rows[0]["dtype"]}', loc='left',
        fontweight='bold')
    axes.grid(color='#e6e6e6', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(facecolor='white', edgecolor='none', framealpha=0.85)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=150, facecolor='white')
  return buffer.getvalue()
