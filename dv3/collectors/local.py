"""The collector of environments on this machine."""

from dv3 import registry
from dv3.collectors import fleet
from dv3.collectors import stepping
from dv3.collectors import worker


@registry.register('collector', 'local')
class LocalCollector(stepping.SteppingCollector):
  """Steps environments in spawned processes of this machine, all at once.

  Environments never share a process with TensorFlow (the two crash where
  OpenGL is software), not even a single one. What is handed on, and what
  becomes of an environment that fails: see `stepping.SteppingCollector`.

  Args:
    env: recipe of the environment.
    seed: of the run; episode n of environment i always starts alike.
    num_envs: how many environments.
    hang_seconds: a step or reset that takes longer hangs; 0 waits forever.
      The first reset of a process, which builds the environment, has 300
      seconds or more.
    max_restarts: of an environment in a row, without a whole step between;
      one more ends the run.

  Raises:
    UserError: (`run`) if an environment cannot be built, or fails more often.
  """

  def _probe(self, recipe):
    return worker.probe(recipe, fleet.launch_seconds(self._hang_seconds))

  def _process(self, make, seconds):
    return worker.Process(make, seconds)
