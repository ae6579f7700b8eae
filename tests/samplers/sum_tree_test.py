"""The sum tree against running sums by NumPy."""

import numpy as np
import pytest

from dv3.samplers import sum_tree


@pytest.mark.parametrize('capacity', [1, 2, 16, 17, 100, 300])
def test_find_inverts_the_running_sum(capacity):
  rng = np.random.default_rng(capacity)
  tree = sum_tree.SumTree(capacity)
  weights = np.zeros(capacity)
  for _ in range(20):
    slots = rng.integers(0, capacity, 3)
    values = np.floor(10 * rng.random(3)) + (slots == 0)
    for slot, value in zip(slots, values, strict=True):
      weights[slot] = value  # The last of a repeated slot counts.
    tree.set(slots, values)
    np.testing.assert_array_equal(tree.get(np.arange(capacity)), weights)
    assert tree.total() == weights.sum()
    masses = np.arange(0.25, weights.sum(), 0.5)  # Weights are whole.
    expected = np.searchsorted(np.cumsum(weights), masses, 'right')
    np.testing.assert_array_equal(tree.find(masses / tree.total()), expected)


def test_rounding_never_finds_a_slot_without_weight():
  tree = sum_tree.SumTree(16)
  tree.set(np.arange(5), np.array([1e-9, 1e9, 1e-9, 0.1, 0.2]))
  fractions = np.array([1 - 1e-9, np.nextafter(1, 0), 1.0])
  np.testing.assert_array_less(tree.find(fractions), 5)
  tree.set(np.arange(5), 0.0)
  assert tree.total() == 0.0


def test_changes_leave_no_rounding_behind():
  rng = np.random.default_rng(0)
  tree = sum_tree.SumTree(64)
  for _ in range(300):
    tree.set(rng.integers(0, 64, 8), 10.0 ** rng.uniform(-8, 8, 8))
  tree.set(np.arange(64), 0.25)
  assert tree.total() == 16.0
