"""Curve statistics against hand-computed numbers."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from dv3 import errors
from dv3.report import curves
from dv3.report import runs as runs_lib


def _series(pairs):
  steps, scores = np.array(pairs, np.float64).T
  return steps, scores


def _run(pairs, task='t', variant=(), seed='0'):
  steps, scores = _series(pairs)
  return runs_lib.Run(
      pathlib.Path(f'/runs/{seed}'), task, seed, variant,
      steps.astype(np.int64), scores, '')


def test_bins_mean_band_and_seeds_that_end_early():
  first = _series([(5, 1), (10, 3), (11, 10), (40, 20)])
  second = _series([(12, 30), (15, 50)])
  curve = curves.curve('label', [first, second], points=4)
  np.testing.assert_array_equal(curve.steps, [10, 20, 30, 40])
  # first: (1 + 3) / 2, 10, 10 carried on, 20. second: none, 40, ended, ended.
  np.testing.assert_array_equal(curve.mean, [2, 25, 10, 20])
  np.testing.assert_array_equal(curve.low, [2, 10, 10, 20])
  np.testing.assert_array_equal(curve.high, [2, 40, 10, 20])
  assert (curve.label, curve.seeds) == ('label', 2)


def test_nothing_is_claimed_before_the_first_episode():
  curve = curves.curve('', [_series([(30, 7), (40, 8)])], points=4)
  np.testing.assert_array_equal(curve.mean, [np.nan, np.nan, 7, 8])


def test_final_score_takes_the_last_tenth_of_env_steps():
  series = _series([(100, 0), (899, 50), (900, 60), (901, 1), (1000, 3)])
  assert curves.final_score(series) == 2.0
  assert curves.final_score(_series([(10, 5.0)])) == 5.0


def test_summary_over_seeds():
  runs = [
      _run([(100, 0), (1000, 4)], seed='0'),
      _run([(100, 0), (2000, 10)], seed='1'), _run([(50, 7)], task='u'),
      runs_lib.Run(
          pathlib.Path('/empty'), 'u', '1', (), np.zeros(0, np.int64),
          np.zeros(0), '')]
  rows = curves.summarize(curves.group(runs))
  assert rows == [
      curves.Row('t', '', 2, (1000, 2000), 7.0, pytest.approx(18 ** 0.5)),
      curves.Row('u', '', 1, (50, 50), 7.0, None)]
  assert curves.table(rows) == [
      ['task', 'seeds', 'last episode at env step', 'score, last 10 %'],
      ['t', '2', '1,000 to 2,000', '7.0 +- 4.2'], ['u', '1', '50', '7.0']]


def test_variants_are_lines_of_their_own():
  names = 'abcd'
  variants = [
      tuple((name, str(value)) for name in names) for value in (1, 2)]
  runs = [
      _run([(10, i)], variant=variant, seed=str(i))
      for i, variant in enumerate(variants)]
  assert list(curves.group(runs)['t']) == [
      'a = 1, b = 1 and 2 more', 'a = 2, b = 2 and 2 more']
  runs[1] = _run([(10, 1)], variant=(*variants[0][:3], ('d', '9')), seed='1')
  assert list(curves.group(runs)['t']) == [
      'a = 1, b = 1 and 2 more (1)', 'a = 1, b = 1 and 2 more (2)']


@pytest.mark.parametrize('pack', [gzip.compress, bytes])
def test_published_scores_count_frames(tmp_path, pack):
  path = tmp_path / 'scores'
  records = [
      {'task': 'x', 'method': 'm', 'seed': seed, 'xs': [40, 80, 120],
       'ys': [1.0 + seed, None, 3.0 + seed]} for seed in (0, 1)]
  records.append(
      {'task': 'y', 'method': 'm', 'seed': 0, 'xs': [1], 'ys': [None]})
  path.write_bytes(pack(json.dumps(records).encode()))
  published = curves.read_reference(str(path), action_repeat=4)
  assert list(published) == ['x']
  [curve] = published['x']
  assert (curve.label, curve.seeds) == ('m (published)', 2)
  assert curve.steps[-1] == 30
  assert (curve.mean[-1], curve.low[-1], curve.high[-1]) == (3.5, 3, 4)
  assert np.nanmin(curve.mean) == 1.5


# The time in a header of gzip would be a part of the case's name, and workers
# of pytest that start in two seconds would have collected two tests.
@pytest.mark.parametrize('content', [
    pytest.param(b'{', id='half'),
    pytest.param(b'[{"task": "x"}]', id='no curve'),
    pytest.param(b'\x1f\x8b123', id='short gzip'),
    pytest.param(b'[3]', id='numbers'),
    pytest.param(
        gzip.compress(b'[]', mtime=0)[:10] + b'\xff' * 20,
        id='damaged gzip')])
def test_a_damaged_reference_is_named(tmp_path, content):
  path = tmp_path / 'scores'
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match='scores cannot be read'):
    curves.read_reference(str(path))
