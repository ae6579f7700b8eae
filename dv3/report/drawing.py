"""Pictures of learning curves."""

import io
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from dv3 import errors
from dv3.report import curves as curves_lib

_COLOURS = (
    '#1f5fa8', '#c8553d', '#3b8f5a', '#8a5aa8', '#b08a2e', '#4a9aa5',
    '#8c564b', '#5f6b7a')
_GREY = '#8a8a8a'
_INK = '#333333'
_WIDTH, _HEIGHT = 5.2, 3.6  # Inches of one picture.
_STYLE: Any = {
    'font.size': 11, 'axes.titlesize': 12.5, 'axes.labelsize': 11,
    'legend.fontsize': 9.5, 'axes.edgecolor': '#999999',
    'axes.labelcolor': _INK, 'text.color': _INK, 'xtick.color': _INK,
    'ytick.color': _INK, 'font.family': 'DejaVu Sans'}


def draw(
    tasks: Mapping[str, Sequence[curves_lib.Curve]],
    references: Mapping[str, Sequence[curves_lib.Curve]]) -> bytes:
  """Draws learning curves, one picture a task.

  Lines are means over seeds, bands reach from the worst to the best seed.

  Args:
    tasks: {task: curves}.
    references: {task: published curves}, drawn dashed and grey.

  Returns:
    A PNG file's bytes.

  Raises:
    UserError: if matplotlib is not installed.
  """
  try:
    import matplotlib
    from matplotlib import figure as figure_lib
  except ImportError as error:
    raise errors.UserError(
        'learning curves need matplotlib; install the extra: '
        f'{errors.pip_install("dv3[report]")}') from error
  columns = min(len(tasks), 3)
  rows = -(-len(tasks) // columns)
  with matplotlib.rc_context(_STYLE):
    figure = figure_lib.Figure(
        (_WIDTH * columns, _HEIGHT * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (task, curves) in zip(
        grid, tasks.items(), strict=False):
      _draw_task(axes, task, curves, references.get(task, ()))
    for axes in list(grid)[len(tasks):]:
      axes.remove()
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=150, facecolor='white')
  return buffer.getvalue()


def _draw_task(axes: Any, task, curves, references):
  """Draws the curves of one task."""
  from matplotlib import ticker
  for number, curve in enumerate(references):
    style = ('--', ':', '-.')[number % 3]
    _draw_curve(axes, curve, _GREY, style, 0.12)
  for number, curve in enumerate(curves):
    _draw_curve(axes, curve, _COLOURS[number % len(_COLOURS)], '-', 0.18)
  axes.set_title(_text(task), loc='left', fontweight='bold')
  axes.set_xlabel('env steps')
  axes.set_ylabel('episode score')
  axes.set_xlim(0, max(curve.steps[-1] for curve in curves))
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(_short))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
  axes.grid(color='#e6e6e6', linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(facecolor='white', edgecolor='none', framealpha=0.85)


def _draw_curve(axes, curve, colour, style, alpha):
  """Draws one line and its band."""
  seeds = f'{curve.seeds} seed{"s" * (curve.seeds > 1)}'
  # One point is no line.
  marker = 'o' if np.isfinite(curve.mean).sum() == 1 else None
  axes.plot(
      curve.steps, curve.mean, style, color=colour, linewidth=1.8,
      marker=marker,
      label=f'{_text(curve.label)}, {seeds}' if curve.label else seeds)
  if curve.seeds > 1:
    axes.fill_between(
        curve.steps, curve.low, curve.high, color=colour, alpha=alpha,
        linewidth=0)


def _text(name: str) -> str:
  """Returns a name that is not taken for a formula between dollars."""
  return name.replace('$', r'\$')


def _short(value, position=None):
  """Formats env steps: 500, 20k, 1.5M."""
  del position
  for size, letter in ((1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:g}{letter}'
  return f'{value:g}'
