"""bsuite, small experiments that each probe one ability."""

import gymnasium

from dv3 import errors
from dv3 import registry
from dv3.envs import dm
from dv3.envs import extras


@registry.register('env', 'bsuite')
def make(*, id: str = 'catch/0') -> gymnasium.Env:
  """Makes an experiment by its id; its seed belongs to the id.

  Args:
    id: for example 'memory_len/5'. Those of mnist download data.

  Raises:
    UserError: for an unknown id, or if the package is not installed.

  Source: Osband et al. 2020, https://arxiv.org/abs/1908.03568.
  """
  bsuite = extras.load('bsuite', 'env.bsuite', 'bsuite')
  sweep = extras.load('bsuite.sweep', 'env.bsuite', 'bsuite')
  if id not in sweep.SWEEP:
    names = sorted({x.partition('/')[0] for x in sweep.SWEEP})
    raise errors.UserError(
        f'env.bsuite.id {id!r} is not a name and number of {names}')
  return dm.DMEnv(bsuite.load_from_id(id))
