"""Aggregation against hand-computed numbers."""

import math

import numpy as np
import pytest

from dv3 import types
from dv3.training import metrics as metrics_lib


class _Tensor:
  """What an eager tensor looks like from here."""

  def __init__(self, value):
    self._value = value

  def numpy(self):
    return np.float32(self._value)


@pytest.fixture
def clock(monkeypatch):
  now = [10.0]
  monkeypatch.setattr(metrics_lib.time, 'perf_counter', lambda: now[0])
  return now


def test_suffixes_choose_how_values_become_one(clock):
  metrics = metrics_lib.Metrics()
  for value in (3.0, np.float32(1.0), _Tensor(8.0)):
    metrics.add({name: value for name in (
        'x', 'loss/x', 'norm_max', 'a/norm_min', 'count_sum', 'rate_last')})
  clock[0] += 1
  line = metrics.result()
  assert (line['x'], line['loss/x']) == (4.0, 4.0)
  assert (line['norm_max'], line['a/norm_min']) == (8.0, 1.0)
  assert (line['count_sum'], line['rate_last']) == (12.0, 8.0)
  assert all(type(value) in (float, int) for value in line.values())


def test_means_are_weighted(clock):
  metrics = metrics_lib.Metrics()
  metrics.add({'x': 1.0, 'only_here': 5.0}, weight=3)
  metrics.add({'x': 5.0}, weight=1)
  clock[0] += 1
  line = metrics.result()
  assert line['x'] == (3 * 1 + 1 * 5) / 4
  assert line['only_here'] == 5.0


def test_many_values_are_folded_without_a_difference(clock):
  rng = np.random.default_rng(0)
  values, weights = rng.normal(size=1000), rng.uniform(1, 2, 1000)
  metrics = metrics_lib.Metrics()
  for value, weight in zip(values, weights, strict=True):
    metrics.add({
        name: value for name in ('x', 'x_max', 'x_min', 'x_sum', 'x_last')
    }, weight)
  assert len(metrics._values['x']) <= 64  # Memory is bounded.
  clock[0] += 1
  line = metrics.result()
  assert line['x'] == pytest.approx((values * weights).sum() / weights.sum())
  assert line['x_sum'] == pytest.approx(values.sum())
  assert line['x_max'] == values.max()
  assert line['x_min'] == values.min()
  assert line['x_last'] == values[-1]


def test_not_finite_values_stay_visible(clock):
  metrics = metrics_lib.Metrics()
  for value in (1.0, math.nan, 2.0):
    metrics.add({'x': value, 'x_max': value})
  clock[0] += 1
  line = metrics.result()
  assert math.isnan(line['x']) and math.isnan(line['x_max'])


def test_rates_shares_and_a_new_interval(clock):
  metrics = metrics_lib.Metrics(env_steps=1000, updates=50)
  with metrics.section('collect'):
    clock[0] += 1
  with metrics.section('train'):
    clock[0] += 2
    with metrics.section('sample'):
      clock[0] += 3
  with metrics.section('collect'):
    clock[0] += 1
  clock[0] += 1  # Elsewhere.
  metrics.add({'x': 1.0})
  line = metrics.result(env_steps=1400, updates=66)
  assert line['count/env_steps'] == 1400
  assert line['rate/env_steps_per_second'] == 400 / 8
  assert line['rate/updates_per_second'] == 16 / 8
  assert line['time/collect_share'] == 2 / 8
  assert line['time/train_share'] == 2 / 8
  assert line['time/sample_share'] == 3 / 8
  clock[0] += 4
  line = metrics.result(env_steps=1500, updates=66)
  assert line['rate/env_steps_per_second'] == 25
  assert line['rate/updates_per_second'] == 0
  assert 'x' not in line and 'time/train_share' not in line


def test_a_failing_section_still_ends(clock):
  metrics = metrics_lib.Metrics()
  with pytest.raises(RuntimeError), metrics.section('outer'):
    with metrics.section('inner'):
      clock[0] += 1
      raise RuntimeError
  with metrics.section('outer'):
    clock[0] += 1
  line = metrics.result()
  assert line['time/outer_share'] == 0.5
  assert line['time/inner_share'] == 0.5


def test_episodes():
  metrics = metrics_lib.Metrics()
  assert not any(name.startswith('episode/') for name in metrics.result())
  metrics.episode(types.Episode(10, 1.0, 10, 0, False, {'lives': 2.0}))
  metrics.episode(types.Episode(40, 5.0, 20, 1, True, {}))
  metrics.episode(types.Episode(50, 6.0, 30, 0, False, {'lives': 4.0}))
  line = metrics.result()
  assert {k: v for k, v in line.items() if k.startswith('episode/')} == {
      'episode/count': 3, 'episode/score': 4.0, 'episode/score_min': 1.0,
      'episode/score_max': 6.0, 'episode/length': 20.0,
      'episode/truncated_share': pytest.approx(1 / 3), 'episode/lives': 3.0}


def test_resident_memory_grows_by_what_is_allocated():
  before = metrics_lib.resident_bytes()
  block = np.ones(64 * 2 ** 20, np.uint8)
  grown = metrics_lib.Metrics().result()['memory/resident_bytes'] - before
  assert 50 * 2 ** 20 < grown < 90 * 2 ** 20
  del block
