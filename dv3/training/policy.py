"""The agent's policy as collectors call it: NumPy in, NumPy out."""

import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3.collectors import random_policy


class Policy:
  """Wraps `Agent.policy` into a compiled function of one step.

    policy = Policy(agent, seed=0)
    state = policy.initial(num_envs)
    actions, entries, state = policy(obs, is_first, state, call_index)

  Random numbers depend on the seed and the call's index only, so that a
  resumed run continues as if it had not stopped.

  Args:
    agent: the built agent.
    seed: of the sampled actions and latents.
    mode: whether to take the likeliest action in place of a sample.
    random_steps: steps, over all environments, with uniformly random actions
      at first.
  """

  def __init__(
      self, agent, *, seed: int, mode: bool = False, random_steps: int = 0):
    self._agent = agent
    self._seed = seed
    self._mode = mode
    self._random_steps = random_steps
    self._random = random_policy.RandomPolicy(agent.codec.specs, seed)
    self._step = tf.function(self._trace, autograph=False)

  def initial(self, num_envs: int):
    """Returns the state before the first step, NumPy leaves [n, ...]."""
    return _to_numpy(self._agent.initial(num_envs))

  def __call__(self, obs, is_first, state, call_index):
    """Chooses actions; see `dv3.collectors` for the contract."""
    actions, entries, state = self._step(
        {k: obs[k] for k, _ in self._agent.obs_spec},
        np.asarray(is_first, bool), state, np.int64(call_index))
    if call_index * len(is_first) < self._random_steps:
      actions, _, _ = self._random(obs, is_first, (), call_index)
      actions = {k: tf.constant(v) for k, v in actions.items()}
      state = state._replace(action=self._agent.codec.encode(actions))
    return _to_numpy(actions), _to_numpy(entries), _to_numpy(state)

  @property
  def trace_count(self) -> int:
    """How often the step was traced: once for each number of environments."""
    return self._step.experimental_get_tracing_count()

  def _trace(self, obs, is_first, state, call_index):
    rng = distributions.Rng(self._seed).fold('policy').fold(call_index)
    return self._agent.policy(obs, is_first, state, rng, mode=self._mode)


def _to_numpy(nest):
  return tf.nest.map_structure(lambda x: x.numpy(), nest)
