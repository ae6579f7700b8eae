"""Paths tell variables apart that Keras calls alike."""

import small_agent
import tensorflow as tf

from dv3.training import distribution
from dv3.training import naming
from dv3.training import step


def test_the_nearest_way_from_the_first_root_is_the_path():
  inner = tf.Module()
  inner.kernel = tf.Variable([1.0])
  outer = tf.Module()
  outer._hidden = [inner, tf.Module()]
  outer.bias = tf.Variable([2.0])
  other = tf.Module()
  other.shared = inner
  other.outer = outer
  paths = naming.variable_paths({'a': outer, 'b': other})
  assert paths == {
      outer.bias.ref(): 'a/bias', inner.kernel.ref(): 'a/hidden/0/kernel'}
  paths = naming.variable_paths({'b': other, 'a': outer})
  assert paths[inner.kernel.ref()] == 'b/shared/kernel'


def test_every_variable_of_an_update_has_a_path_of_its_own():
  agent = small_agent.make()
  agent.build()
  group = 'all', ('*',), small_agent.part('optimizer', 'laprop')
  update = step.make_update(
      agent, distribution.make_strategy(), (group,), seed=0)
  paths = naming.update_paths(update)
  for variable in (*update.variables, *update._state()):
    assert variable.ref() in paths, variable.name
  assert len(set(paths.values())) == len(paths)
  found = set(paths.values())
  assert {'core/gates/kernel', 'update/updates'} <= found
  assert any(
      path.startswith('optimizer/all/') and path.endswith('momentum/kernel')
      for path in found)
  # The agent's are the same without its optimizer.
  assert naming.agent_paths(agent).items() <= paths.items()
