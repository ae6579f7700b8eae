"""dv3-report as one runs it: the table, the picture, the page, the errors."""

import base64
import html.parser
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dv3 import errors
from dv3.loggers import video
from dv3.report import curves
from dv3.report import drawing


def _report(*flags):
  return subprocess.run(
      [sys.executable, '-m', 'dv3.bin.report', *flags], capture_output=True,
      text=True)


@pytest.fixture
def folder(tmp_path):
  for task, last in (('cartpole', 500), ('pendulum', -150)):
    for seed in range(2):
      run = tmp_path / task / str(seed)
      run.mkdir(parents=True)
      (run / 'config.gin').write_text(
          f"dv3.train.env = @env.gymnasium\nenv.gymnasium.id = '{task}<&>'\n")
      (run / 'scores.jsonl').write_text(''.join(
          json.dumps({
              'step': step, 'episode/score': last * step / 1000 + seed,
              'episode/length': 100}) + '\n'
          for step in range(100, 1001, 100)))
  return tmp_path


class _Page(html.parser.HTMLParser):
  """Collects the pictures, and checks that tags close."""

  def __init__(self):
    super().__init__()
    self.images, self.open, self.text = [], [], ''

  def handle_starttag(self, tag, attrs):
    if tag == 'img':
      self.images.append(dict(attrs)['src'])
    elif tag != 'meta':
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def test_several_logdirs_make_a_table_and_one_page(folder):
  frames = np.zeros((3, 6, 8, 3), np.uint8)
  frames[1, ..., 0], frames[2, ..., 1] = 255, 255
  logger = video.Videos(logdir=folder / 'cartpole' / '0')
  logger.write(700, {'open_loop/image': frames[::-1]})
  logger.write(1000, {'open_loop/image': frames})
  result = _report(
      f'--logdir={folder}/cartpole/0', f'--logdir={folder}/cartpole/1',
      f'--logdir={folder}/pendulum')
  assert (result.returncode, result.stderr) == (0, '')
  # The last tenth holds the episode at 1000 only: 500 and 501, -150 and -149.
  assert re.search(r'^cartpole<&> +2 +1,000 +500.5 \+- 0.7$', result.stdout,
                   re.MULTILINE)
  assert re.search(r'^pendulum<&> +2 +1,000 +-149.5 \+- 0.7$', result.stdout,
                   re.MULTILINE)
  output = folder / 'cartpole' / '0' / 'report.html'
  assert str(output) in result.stdout
  page = _Page()
  page.feed(output.read_text())
  assert page.open == []
  assert 'http' not in output.read_text()  # Self-contained.
  png, gif = (
      Image.open(io.BytesIO(base64.b64decode(source.partition(',')[2])))
      for source in page.images)
  assert png.format == 'PNG' and png.width >= 1000
  assert gif.format == 'GIF' and gif.n_frames == 3
  np.testing.assert_array_equal(np.asarray(gif.convert('RGB')), frames[0])
  assert "env.gymnasium.id = 'cartpole<&>'" in page.text
  assert 'at 1,000 env steps' in page.text


def test_a_picture_with_published_scores(folder, tmp_path):
  reference = tmp_path / 'published.json'
  reference.write_text(json.dumps([{
      'task': 'dmc_pendulum', 'method': 'm', 'seed': 0, 'xs': [100, 2000],
      'ys': [-900, -100]}]))
  output = tmp_path / 'new' / 'curves.png'
  flags = (f'--logdir={folder}', f'--output={output}')
  result = _report(
      *flags, f'--reference={reference}', '--action_repeat=2',
      '--reference_task=pendulum<&>=dmc_pendulum')
  assert result.returncode == 0, result.stderr
  with Image.open(output) as image:
    assert image.format == 'PNG'
    grey = np.asarray(image.convert('RGB')).reshape(-1, 3)
  assert (grey == 0x8a).all(-1).sum() > 100  # The published line.
  result = _report(*flags, f'--reference={reference}')
  assert result.returncode == 2
  assert '--reference_task' in result.stderr
  assert result.stderr.count('\n') == 1


@pytest.mark.parametrize('flags,words', [
    ((), 'no run was named'), (('--logdir=/nowhere',), 'not a folder'),
    (('--logdir=/', '--output=curves.pdf'), '.html')])
def test_errors_are_one_line_with_exit_code_2(flags, words):
  result = _report(*flags)
  assert result.returncode == 2
  assert words in result.stderr and result.stderr.count('\n') == 1


def test_missing_matplotlib_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  curve = curves.curve('', [(np.array([1.0]), np.array([2.0]))])
  with pytest.raises(errors.UserError, match=r'dv3\[report\]'):
    drawing.draw({'task': [curve]}, {})


def test_flags_for_published_curves_need_their_file(folder):
  for flag in ('--reference_task=a=b', '--action_repeat=4'):
    done = _report(f'--logdir={folder}', flag)
    assert done.returncode == 2 and '--reference' in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_names_with_dollars_are_no_formulas(tmp_path):
  curve = curves.curve('$x_', [(np.array([1.0, 2.0]), np.array([2.0, 3.0]))])
  assert drawing.draw({'cost in $ or $_{': [curve]}, {}).startswith(b'\x89PNG')


def test_one_episode_is_a_dot():
  from matplotlib import figure
  axes = figure.Figure().subplots()
  for count in (1, 2):
    steps = np.arange(1, count + 1) * 100
    curve = curves.curve('', [(steps, np.ones(count))])
    drawing._draw_curve(axes, curve, 'black', '-', 0.1)
  lone, several = axes.get_lines()
  shown = lambda line: line.get_marker() not in ('None', None)
  assert shown(lone) and not shown(several)
