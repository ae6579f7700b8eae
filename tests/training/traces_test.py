"""The update is traced once, whatever the batches hold."""

import small_agent

from dv3.training import distribution
from dv3.training import policy as policy_lib
from dv3.training import step


def test_updates_and_policy_are_traced_once():
  agent = small_agent.make()
  agent.build()
  update = step.make_update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part('optimizer', 'laprop')),), seed=0,
      jit_compile=False)
  for seed in range(4):
    update(small_agent.batch(size=2, length=3, seed=seed))
  assert update.trace_count == 1
  policy = policy_lib.Policy(agent, seed=0)
  batch = small_agent.batch(size=2, length=6)
  state = policy.initial(2)
  for t in range(6):
    obs = {key: batch[key][:, t] for key in small_agent.OBS_SPEC}
    _, _, state = policy(obs, batch['is_first'][:, t], state, t)
  assert policy.trace_count == 1


def test_choice_of_compiler():
  agent = small_agent.make()
  agent.build()
  make = lambda **kwargs: step.make_update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part('optimizer', 'laprop')),), seed=0,
      **kwargs)
  assert make(jit_compile=True).compiled
  assert not make(jit_compile=False).compiled
