"""Where the run stands: rates of the last minute, return, time left."""

import collections
import time

from dv3 import types


class Progress:
  """Follows the counters of a run for the live progress line.

    progress = Progress(budget=50_000, env_steps=0, updates=0)
    progress.episode(episode)
    terminal.progress(env_steps, progress.status(env_steps, updates))

  Args:
    budget: env steps of the whole run.
    env_steps: env steps at the start, or at the checkpoint that was resumed.
    updates: optimizer steps likewise.
    window_seconds: the rates are means over this time. They begin again at
      the first update, so that its compilation and the steps before it, which
      nothing trains on, do not count.
    episodes: the return is the mean of so many last episodes.
  """

  def __init__(
      self, budget: int, env_steps: int = 0, updates: int = 0, *,
      window_seconds: float = 60.0, episodes: int = 10):
    self._budget = budget
    self._window = window_seconds
    self._before_updates = updates
    self._scores = collections.deque(maxlen=episodes)
    self._samples = collections.deque([(time.monotonic(), env_steps, updates)])

  def episode(self, episode: types.Episode) -> None:
    """Takes in a finished episode."""
    self._scores.append(episode.score)

  def status(self, env_steps: int, updates: int) -> dict[str, float]:
    """Returns where the run stands; cheap enough for every loop.

    Args:
      env_steps: env steps so far.
      updates: optimizer steps so far.

    Returns:
      {name: number}: `budget_env_steps`, `updates`; `env_steps_per_second` and
      `updates_per_second` once a sixtieth of the window has passed; `return`
      once an episode ended; `seconds_left` once env steps have been made in a
      twelfth of the window or more.
    """
    now = time.monotonic()
    samples = self._samples
    if self._before_updates is not None and updates > self._before_updates:
      self._before_updates = None
      samples.clear()
      samples.append((now, env_steps, updates))
    while len(samples) > 1 and samples[1][0] <= now - self._window:
      samples.popleft()  # The oldest that stays is just outside the window.
    then, old_env_steps, old_updates = samples[0]
    if now - samples[-1][0] >= self._window / 60:
      samples.append((now, env_steps, updates))
    elapsed = now - then
    status: dict[str, float] = {
        'budget_env_steps': self._budget, 'updates': updates}
    if elapsed >= self._window / 60:
      status['env_steps_per_second'] = (env_steps - old_env_steps) / elapsed
      status['updates_per_second'] = (updates - old_updates) / elapsed
    if self._scores:
      status['return'] = sum(self._scores) / len(self._scores)
    if elapsed >= self._window / 12 and env_steps > old_env_steps:
      status['seconds_left'] = (
          max(self._budget - env_steps, 0) / (env_steps - old_env_steps)
          * elapsed)
    return status
