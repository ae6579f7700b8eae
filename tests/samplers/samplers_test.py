"""Every sampler draws as its formula says, and survives a restart."""

import numpy as np
import pytest

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.samplers import curious
from dv3.samplers import episode_ends
from dv3.samplers import prioritized
from dv3.samplers import recency
from dv3.samplers import uniform

ALL = [
    uniform.UniformSampler, recency.RecencySampler,
    prioritized.PrioritizedSampler, curious.CuriousSampler,
    episode_ends.EpisodeEndsSampler]
DRAWS = 200_000


def shares(sampler, first, count, seed=0):
  """Returns how often items first, first + 1, ... are drawn, as shares."""
  drawn = sampler.sample(DRAWS, np.random.default_rng(seed))
  assert drawn.dtype == np.int64
  assert drawn.min() >= first
  assert drawn.max() < first + count
  return np.bincount(drawn - first, minlength=count) / DRAWS


def check(sampler, first, weights):
  """Compares with probabilities, to five standard errors of a share."""
  p = np.asarray(weights, float) / np.sum(weights)
  error = 5 * np.sqrt(p * (1 - p) / DRAWS) + 1e-9
  np.testing.assert_array_less(
      np.abs(shares(sampler, first, len(p)) - p), error)


def fill(sampler, capacity, count):
  """Adds items as replay does: the oldest goes before there are too many."""
  for item in range(count):
    if item >= capacity:
      sampler.remove(np.array([item - capacity]))
    sampler.add(np.array([item]))
  return sampler


@pytest.mark.parametrize('make', ALL)
def test_contract(make):
  assert issubclass(make, interfaces.Sampler)
  sampler = fill(make(capacity=5), 5, 13)
  assert set(sampler.sample(500, np.random.default_rng(0))) == set(range(8, 13))
  a, b = (sampler.sample(9, np.random.default_rng(3)) for _ in range(2))
  np.testing.assert_array_equal(a, b)
  assert sampler.sample(0, np.random.default_rng(0)).shape == (0,)


@pytest.mark.parametrize('make', ALL)
def test_continues_exactly_after_a_restart(make):
  def live(sampler, start, stop):
    drawn = []
    for item in range(start, stop):
      if item >= 20:
        sampler.remove(np.array([item - 20]))
      sampler.add(np.array([item]))
      local = np.random.default_rng(item)
      items = sampler.sample(4, local)
      ends = items[:, None] + np.arange(3)
      ends[ends > item] = -1
      sampler.update(items, {'loss': local.random((4, 3), np.float32)}, ends)
      drawn.append(items)
    return np.array(drawn)

  whole = make(capacity=20)
  live(whole, 0, 33)
  saved = {k: np.array(v) for k, v in whole.state().items()}
  expected = live(whole, 33, 60)
  again = make(capacity=20)
  again.load(saved, np.arange(13, 33))
  np.testing.assert_array_equal(live(again, 33, 60), expected)
  for name, value in whole.state().items():
    np.testing.assert_array_equal(again.state()[name], value, name)


@pytest.mark.parametrize('make', ALL)
def test_takes_several_items_at_once(make):
  one, several = make(capacity=6), make(capacity=6)
  fill(one, 6, 9)
  several.add(np.arange(6))
  several.remove(np.arange(3))
  several.add(np.arange(6, 9))
  draw = lambda s: s.sample(50, np.random.default_rng(1))
  np.testing.assert_array_equal(draw(one), draw(several))


def test_uniform():
  check(fill(uniform.UniformSampler(capacity=10), 10, 17), 7, np.ones(10))


@pytest.mark.parametrize('exponent', [0.0, 0.5, 1.0, 2.0])
def test_recency(exponent):
  sampler = recency.RecencySampler(capacity=12, exponent=exponent)
  ages = np.arange(12)[::-1]
  check(fill(sampler, 12, 30), 18, (1.0 + ages) ** -exponent)


def test_recency_while_replay_grows():
  sampler = recency.RecencySampler(capacity=1000)
  stored = 0
  for count in (1, 2, 5, 30):
    sampler.add(np.arange(stored, count))
    stored = count
    check(sampler, 0, 1.0 / (1.0 + np.arange(count)[::-1]))


def test_prioritized():
  sampler = prioritized.PrioritizedSampler(
      capacity=8, exponent=0.6, max_fraction=0.75, epsilon=0.1)
  fill(sampler, 8, 10)
  check(sampler, 2, np.ones(8))  # New ones are alike.
  loss = np.array([[0.5, 0.1], [-4.0, 2.0]])
  sampler.update(np.array([3, 6]), {'loss': loss}, np.full((2, 2), -1))
  weights = np.ones(8)
  weights[1] = (0.75 * 0.5 + 0.25 * 0.3 + 0.1) ** 0.6
  weights[4] = (0.75 * 4.0 + 0.25 * 3.0 + 0.1) ** 0.6
  check(sampler, 2, weights)
  sampler.remove(np.array([2]))
  sampler.add(np.array([10]))  # As likely as the likeliest that trained.
  check(sampler, 3, [*weights[1:], weights[4]])


def test_curious():
  sampler = curious.CuriousSampler(
      capacity=6, c=20.0, beta=0.7, alpha=0.5, epsilon=0.01, initial=30.0)
  fill(sampler, 6, 6)
  update = lambda ends, loss: sampler.update(
      np.zeros(len(ends), np.int64), {'loss': np.array(loss)}, np.array(ends))
  update([[-1, 1], [3, 4], [4, -1]], [[8.0, 2.0], [1.0, 9.0], [3.0, 7.0]])
  update([[4]], [[5.0]])
  weights = np.full(6, 30.0)
  weights[1] = 20 * 0.7 + 2.01 ** 0.5
  weights[3] = 20 * 0.7 + 1.01 ** 0.5
  weights[4] = 20 * 0.7 ** 3 + 5.01 ** 0.5
  check(sampler, 0, weights)
  # A slot's next item is new again.
  sampler.remove(np.arange(5))
  sampler.add(np.arange(6, 11))
  update([[10]], [[0.0]])
  check(sampler, 5, [*np.full(5, 30.0), 20 * 0.7 + 0.01 ** 0.5])


def test_curious_has_the_numbers_of_the_paper():
  sampler = curious.CuriousSampler(capacity=4)
  sampler.add(np.arange(4))
  sampler.update(np.array([0]), {'loss': np.array([[3.0]])}, np.array([[0]]))
  check(sampler, 0, [1e4 * 0.7 + 3.01 ** 0.7, 1e5, 1e5, 1e5])


def test_ends_of_episodes_are_drawn_as_often_as_by_the_2021_rule():
  # Starts are uniform over the episode, and moved back from beyond its last
  # sequence: min(uniform start, last start), for sequences of 50 steps.
  steps, length = 60, 50
  rng = np.random.default_rng(1)
  starts = np.minimum(rng.integers(steps, size=DRAWS), steps - length)
  sampler = episode_ends.EpisodeEndsSampler(capacity=20)
  sampler.add(np.arange(steps - length + 1))
  sampler.mark_ends(np.array([steps - length]))
  np.testing.assert_allclose(
      shares(sampler, 0, steps - length + 1),
      np.bincount(starts) / DRAWS, atol=0.005)
  # A slot's next item is no end.
  sampler.remove(np.arange(steps - length + 1))
  sampler.add(np.arange(11, 31))
  check(sampler, 11, np.ones(20))


@pytest.mark.parametrize('make', ALL)
def test_losses_that_are_not_finite_change_nothing(make):
  sampler = make(capacity=3)
  sampler.add(np.arange(3))
  sampler.update(
      np.array([0, 1]), {'loss': np.array([[np.nan], [np.inf]])},
      np.array([[0], [1]]))
  check(sampler, 0, sampler_weights(make, 3))


def sampler_weights(make, count):
  """Returns the probabilities of new items, up to a factor."""
  if make is recency.RecencySampler:
    return 1.0 / (1.0 + np.arange(count)[::-1])
  return np.ones(count)


@pytest.mark.parametrize('name', ['prioritized', 'curious'])
def test_a_signal_that_there_is_not_is_named(name):
  sampler = registry.get('sampler', name)(capacity=8, signal='reward')
  sampler.add(np.arange(4))
  with pytest.raises(errors.UserError, match=r"'reward', and updates give"):
    sampler.update(
        np.arange(2), {'loss': np.ones((2, 3))}, np.full((2, 3), -1))
