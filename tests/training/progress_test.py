"""The run's position against hand-computed numbers."""

import pytest

from dv3 import types
from dv3.training import progress as progress_lib


@pytest.fixture
def clock(monkeypatch):
  now = [500.0]
  monkeypatch.setattr(progress_lib.time, 'monotonic', lambda: now[0])
  return now


def test_rates_and_time_left_of_a_resumed_run(clock):
  progress = progress_lib.Progress(10_000, env_steps=4_000, updates=100)
  nothing_yet = {'budget_env_steps': 10_000, 'updates': 100}
  assert progress.status(4_000, 100) == nothing_yet
  clock[0] += 1
  first = progress.status(4_001, 100)
  assert first['env_steps_per_second'] == 1 and 'seconds_left' not in first
  clock[0] += 30  # The first update is compiled, which says nothing of others.
  nothing_yet['updates'] = 101
  assert progress.status(4_001, 101) == nothing_yet
  clock[0] += 20
  assert progress.status(4_201, 151) == {
      'budget_env_steps': 10_000, 'updates': 151,
      'env_steps_per_second': 10.0, 'updates_per_second': 2.5,
      'seconds_left': pytest.approx(579.9)}


def test_what_little_time_cannot_tell_is_left_out(clock):
  progress = progress_lib.Progress(1_000, window_seconds=60)
  clock[0] += 0.9
  assert 'env_steps_per_second' not in progress.status(9, 0)
  clock[0] += 0.1
  assert progress.status(10, 0)['env_steps_per_second'] == 10
  clock[0] += 3.9
  assert 'seconds_left' not in progress.status(49, 0)
  clock[0] += 0.1
  assert progress.status(50, 0)['seconds_left'] == pytest.approx(95)
  still = progress_lib.Progress(1_000, env_steps=50)
  clock[0] += 10
  status = still.status(50, 0)
  assert status['env_steps_per_second'] == 0 and 'seconds_left' not in status


def test_rates_forget_what_lies_before_the_window(clock):
  progress = progress_lib.Progress(100_000, window_seconds=60)
  env_steps = 0
  for second in range(400):
    env_steps += 1000 if second < 200 else 10  # Prefill, then training.
    clock[0] += 1
    status = progress.status(env_steps, 0)
  assert status['env_steps_per_second'] == pytest.approx(10)
  assert len(progress._samples) < 70


def test_the_return_is_the_mean_of_the_last_episodes(clock):
  progress = progress_lib.Progress(100, episodes=3)
  assert 'return' not in progress.status(0, 0)
  for score in (100.0, 1.0, 2.0, 6.0):
    progress.episode(types.Episode(0, score, 1, 0, False, {}))
  assert progress.status(0, 0)['return'] == 3.0


def test_no_time_is_left_beyond_the_budget(clock):
  progress = progress_lib.Progress(100)
  clock[0] += 10
  assert progress.status(120, 0)['seconds_left'] == 0
