"""The live line: its parts, its rhythm, and that it never ends a run."""

import errno
import io
import os

import pytest

from dv3.loggers import terminal

_STATUS = {
    'budget_env_steps': 50_000, 'updates': 3_085, 'return': 187.43,
    'seconds_left': 392.4, 'env_steps_per_second': 96.12,
    'updates_per_second': 24.03}
_LINE = (
    '12,340/50,000 env steps (24 %) | 3,085 updates | return 187.4 | '
    '0:06:32 left | 96.1 env steps/s | 24.0 updates/s')


class _Tty(io.StringIO):

  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(terminal.time, 'monotonic', lambda: now[0])
  return now


def test_plain_output_is_one_line_every_interval(clock):
  stream = io.StringIO()
  logger = terminal.Terminal(plain_seconds=10, stream=stream)
  for second in range(25):
    clock[0] = 100.0 + second
    logger.progress(12_340 + second, _STATUS)
  lines = stream.getvalue().splitlines()
  assert lines[0] == _LINE
  assert [line.split('/')[0] for line in lines] == [
      '12,340', '12,350', '12,360']
  logger.close()
  assert stream.getvalue().splitlines()[-1].startswith('12,364/')


def test_a_terminal_gets_one_line_rewritten_within_its_width(
    clock, monkeypatch):
  monkeypatch.setenv('COLUMNS', '60')
  stream = _Tty()
  logger = terminal.Terminal(stream=stream)
  logger.progress(12_340, _STATUS)
  clock[0] += 0.1
  logger.progress(12_341, _STATUS)
  clock[0] += 1
  logger.progress(12_342, _STATUS)
  logger.close()
  assert stream.getvalue() == (
      '\r\x1b[K12,340/50,000 env steps (24 %) | 3,085 updates'
      '\r\x1b[K12,342/50,000 env steps (24 %) | 3,085 updates\n')


def test_losses_are_shown_if_short(clock):
  stream = io.StringIO()
  logger = terminal.Terminal(plain_seconds=0, stream=stream)
  logger.write(1, {'loss/reward': 0.25, 'loss/kl': 1.0, 'other': 3.0})
  logger.progress(1, {})
  logger.write(1, {f'loss/part_{x}': 0.25 for x in range(9)})
  logger.progress(2, {})
  logger.write(1, {
      **{f'loss/part_{x}': 0.25 for x in range(9)}, 'train/loss': 12.345678})
  logger.progress(3, {})
  assert stream.getvalue().splitlines() == [
      '1 env steps | reward 0.25 kl 1', '2 env steps',
      '3 env steps | loss 12.35']


@pytest.mark.parametrize('error', [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    BrokenPipeError(errno.EPIPE, 'broken pipe'), ValueError('closed file')])
def test_a_broken_output_silences_it(error):

  class Broken(_Tty):

    def write(self, text):
      raise error

  logger = terminal.Terminal(stream=Broken(), refresh_seconds=0)
  logger.progress(1, {})
  logger.progress(2, {})
  logger.close()


@pytest.mark.parametrize('seconds,text', [
    (0, '0:00:00'), (59.6, '0:01:00'), (3 * 3600 + 61, '3:01:01'),
    (86_400 + 5, '1 day 0:00:05'), (3 * 86_400, '3 days 0:00:00')])
def test_clock(seconds, text):
  assert terminal.clock(seconds) == text


def test_nothing_is_shown_without_progress():
  stream = _Tty()
  terminal.Terminal(stream=stream).close()
  assert stream.getvalue() == ''


def test_closed_output_is_silence(monkeypatch):
  monkeypatch.setattr(terminal.sys, 'stdout', None)
  logger = terminal.Terminal()
  logger.progress(1, {})
  logger.close()


def test_metrics_that_are_no_numbers_are_named():
  with pytest.raises(ValueError, match="metric 'x' is None"):
    terminal.Terminal(stream=io.StringIO()).write(1, {'x': None})
