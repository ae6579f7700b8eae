"""One self-contained HTML page about several runs."""

import base64
import html
import pathlib
import re
from collections.abc import Sequence

from dv3.report import runs as runs_lib

_STYLE = '''
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; word-break: break-all; }
table { border-collapse: collapse; }
th, td { padding: .35rem 1rem .35rem 0; text-align: left;
  border-bottom: 1px solid #ddd; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; }
img.video { image-rendering: pixelated; width: 40rem; }
figure { margin: .5rem 0 1.5rem; } figcaption, .note { color: #666;
  font-size: .875rem; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto;
  font-size: .8125rem; }
'''


def render(
    title: str, table: Sequence[Sequence[str]], picture: bytes,
    runs: Sequence[runs_lib.Run]) -> str:
  """Returns the page; everything shown is inside of it.

  Args:
    title: its heading.
    table: the summary as text, the heading first.
    picture: the learning curves, PNG.
    runs: their newest videos and their configurations are shown.
  """
  parts = [
      '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>',
      f'<body>\n<h1>{html.escape(title)}</h1>', _table(table),
      '<h2>Learning curves</h2>',
      f'<figure><img alt="Learning curves" src="{_data(picture, "png")}">',
      '<figcaption>Score of training episodes over env steps. Lines are means '
      'over seeds, bands reach from the worst to the best seed; published '
      'scores are dashed and grey.</figcaption></figure>',
      *_videos(runs), *_configurations(runs), '</body>\n</html>\n']
  return '\n'.join(parts)


def newest_videos(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns {name: the GIF of the most env steps} of a run's videos."""
  newest = {}
  for path in sorted(folder.glob('*-????????????.gif')):
    newest[path.stem[:-13]] = path
  return newest


def _table(lines):
  """Returns the summary; all columns after the words are numbers."""
  words = len(lines[0]) - 3
  rows = []
  for number, line in enumerate(lines):
    tag = 'td' if number else 'th'
    cells = [
        f'<{tag}{"" if column < words else " class=number"}>'
        f'{html.escape(text).replace("+-", "&plusmn;")}</{tag}>'
        for column, text in enumerate(line)]
    rows.append(f'<tr>{"".join(cells)}</tr>')
  return (
      '<table>\n' + '\n'.join(rows) + '\n</table>\n<p class=note>Score: mean '
      'over seeds of each one\'s episodes in the last 10 % of its env steps '
      '&plusmn; standard deviation between seeds.</p>')


def _videos(runs):
  """Yields the newest videos of each run."""
  heading = '<h2>Newest videos</h2>'
  for run in runs:
    for name, path in newest_videos(run.path / 'videos').items():
      step = int(re.sub(r'\D', '', path.stem[-12:]) or 0)
      yield (
          f'{heading}<h3>{_name(run)}</h3><figure><img class=video '
          f'alt="{html.escape(name)}" src="{_data(path.read_bytes(), "gif")}">'
          f'<figcaption>{html.escape(name)} at {step:,} env steps'
          f'{_OPEN_LOOP if name.startswith("open_loop") else ""}'
          '</figcaption></figure>')
      heading = ''


_OPEN_LOOP = (
    ': truth above, model below it (green border: it sees the frames; red: it '
    'dreams), difference at the bottom')


def _configurations(runs):
  """Yields the configuration of each run, folded."""
  heading = '<h2>Configurations</h2>'
  for run in runs:
    if run.config_text:
      yield (
          f'{heading}<details><summary>{_name(run)}</summary>'
          f'<pre>{html.escape(run.config_text)}</pre></details>')
      heading = ''


def _name(run):
  """Returns what a run is called on the page."""
  return html.escape(f'{run.task}, seed {run.seed} ({run.path})')


def _data(content, kind):
  """Returns a picture as a data address."""
  return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'
