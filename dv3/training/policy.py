"""The agent's policy as collectors call it: NumPy in, NumPy out."""

import numpy as np
import tensorflow as tf

from dv3 import distributions


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
  """

  def __init__(self, agent, *, seed: int, mode: bool = False):
    self._agent = agent
    self._seed = seed
    self._mode = mode
    self._step = tf.function(self._trace, autograph=False)

  def initial(self, num_envs: int):
    """Returns the state before the first step, NumPy leaves [n, ...]."""
    return _to_numpy(self._agent.initial(num_envs))

  def __call__(self, obs, is_first, state, call_index):
    """Chooses actions; see `dv3.collectors` for the contract."""
    actions, entries, state = self._step(
        {k: obs[k] for k, _ in self._agent.obs_spec},
        np.asarray(is_first, bool), state, np.int64(call_index))
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
