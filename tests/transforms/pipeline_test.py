"""Transforms between collector and replay."""

import numpy as np

from dv3 import interfaces
from dv3 import registry
from dv3.transforms import pipeline


class Hold(interfaces.Transform):
  """Hands on pairs of steps, the later one first."""

  def __init__(self):
    self.held = {}

  def __call__(self, step, worker):
    if worker not in self.held:
      self.held[worker] = step
      return []
    return [step, self.held.pop(worker)]

  def state(self):
    return {str(k): v for k, v in self.held.items()}

  def load(self, state):
    self.held = {int(k): v for k, v in state.items()}


def steps(*rewards):
  return {
      'reward': np.array(rewards, np.float32),
      'is_first': np.zeros(len(rewards), bool)}


def run(transforms, calls):
  result = []
  sink = lambda values, workers: result.append(
      (values['reward'].round(3).tolist(), workers.tolist()))
  target = pipeline.Pipeline(transforms, sink)
  for values, workers in calls:
    target(values, np.array(workers))
  return result, target


def test_tanh_reward_changes_the_reward_alone():
  transform = registry.get('transform', 'tanh_reward')()
  step, = transform({'reward': np.float32(2.0), 'is_first': True}, 0)
  np.testing.assert_allclose(step['reward'], np.tanh(2.0), rtol=1e-6)
  assert step['reward'].dtype == np.float32 and step['is_first'] is True


def test_steps_of_several_workers_stay_apart():
  result, _ = run([Hold()], [
      (steps(1, 2), [0, 1]), (steps(3), [1]), (steps(4, 5), [0, 1])])
  assert result == [([3.0], [1]), ([2.0], [1]), ([4.0], [0]), ([1.0], [0])]


def test_held_steps_survive():
  _, first = run([Hold()], [(steps(1), [0])])
  result = []
  second = pipeline.Pipeline(
      [Hold()], lambda values, workers: result.append(values['reward'].item()))
  second.load(first.state())
  second(steps(2), np.array([0]))
  assert result == [2.0, 1.0]


def test_without_transforms_steps_pass_as_they_are():
  result, _ = run([], [(steps(1, 2), [0, 1])])
  assert result == [([1.0, 2.0], [0, 1])]
