"""What runs in a Ray actor: one environment, no TensorFlow, no Ray."""

from gymnasium import vector

from dv3.collectors import worker


class Environment:
  """One environment, whose results have a leading axis of length 1.

  Results are those of `worker.Process`.

  Args:
    make: see `worker.Make`.
  """

  def __init__(self, make: worker.Make):
    self._env = vector.SyncVectorEnv(
        [make], autoreset_mode=vector.AutoresetMode.NEXT_STEP)  # As its own.

  def reset(self):
    """Resets; the first time, builds the environment before."""
    return self._env.reset()

  def step(self, actions):
    """Takes the policy's actions {name: [1, ...]}."""
    return self._env.step(actions)

  def end(self) -> None:
    """Has the next step reset the environment."""
    self._env.call('end')

  def close(self) -> None:
    """Ends the environment; the process stays."""
    self._env.close()
