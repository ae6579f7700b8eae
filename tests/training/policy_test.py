"""The policy as collectors call it."""

import functools

import numpy as np
import pytest
import small_agent
import tensorflow as tf

from dv3 import errors
from dv3.training import policy


@functools.cache
def make():
  """Returns a built agent, and observations of two environments."""
  agent = small_agent.make()
  agent.build()
  batch = small_agent.batch()
  return agent, {key: batch[key][:2, 0] for key, _ in agent.obs_spec}


def test_random_actions_at_first_are_what_the_state_remembers():
  agent, obs = make()
  first = np.ones(2, bool)
  acting = policy.Policy(agent, seed=0, random_steps=4)
  seen = []
  state = acting.initial(2)
  for call in range(4):
    actions, entries, state = acting(obs, first, state, call)
    assert set(entries) == {'latent/deter', 'latent/stoch'}
    encoded = agent.codec.encode(
        {k: tf.constant(v) for k, v in actions.items()})
    np.testing.assert_allclose(state.action, encoded, rtol=1e-6)
    seen.append(actions['action/move'])
  # Two environments: calls 0 and 1 are random, uniform within the bounds.
  assert all(np.abs(x).max() <= 1.0 for x in seen[:2])
  again = policy.Policy(agent, seed=0)
  actions, _, _ = again(obs, first, again.initial(2), 0)
  assert not np.allclose(actions['action/move'], seen[0])


def test_random_actions_follow_the_steps_where_they_are_told():
  agent, obs = make()
  first, steps, asked = np.ones(2, bool), [0], []
  class Ask:
    def __call__(self, actions, env_steps):
      asked.append(env_steps)
      return actions
  acting = policy.Policy(
      agent, seed=0, random_steps=4, exploration=Ask(),
      env_steps=lambda: steps[0])
  state = acting.initial(2)
  # A run with other numbers of environments before: calls say nothing.
  for call, steps[0] in ((9, 3), (9, 4), (0, 700)):
    _, _, state = acting(obs, first, state, call)
  assert asked == [4, 700]


def test_exploration_follows_random_actions_and_the_state_remembers_it():
  agent, obs = make()
  first, asked = np.ones(2, bool), []
  class Negate:
    def __call__(self, actions, env_steps):
      asked.append(env_steps)
      return {**actions, 'action/move': -actions['action/move']}
  acting = policy.Policy(
      agent, seed=0, random_steps=4, exploration=Negate())
  plain = policy.Policy(agent, seed=0, random_steps=4)
  state, other = acting.initial(2), plain.initial(2)
  for call in range(4):
    # Every call starts anew, so that both see the same.
    actions, _, state = acting(obs, first, state, call)
    expected, _, other = plain(obs, first, other, call)
    sign = 1 if call < 2 else -1
    np.testing.assert_array_equal(
        actions['action/move'], sign * expected['action/move'])
    np.testing.assert_allclose(state.action, agent.codec.encode(
        {k: tf.constant(v) for k, v in actions.items()}), rtol=1e-6)
  assert asked == [4, 6]


@pytest.mark.parametrize('wrong, words', [
    (lambda x: None, 'made NoneType of the actions'),
    (lambda x: {}, 'made nothing of'),
    (lambda x: {**x, 'action/move': x['action/move'][0]}, r'float32\[2\] in'),
    (lambda x: {**x, 'action/move': x['action/move'] * np.nan}, 'nan'),
    (lambda x: {**x, 'action/press': x['action/press'] + 9}, 'press int32'),
    (lambda x: {**x, 'action/press': x['action/press'] * 1.0}, 'float64')])
def test_an_exploration_that_spoils_actions_is_named(wrong, words):
  class Wrong:
    def __call__(self, actions, env_steps):
      return wrong(actions)
  agent, obs = make()
  acting = policy.Policy(agent, seed=0, exploration=Wrong())
  with pytest.raises(errors.UserError, match=words) as caught:
    acting(obs, np.ones(2, bool), acting.initial(2), 0)
  assert str(caught.value).startswith('Wrong made ')
