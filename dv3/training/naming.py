"""Names of variables that tell them apart."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def variable_paths(roots: Mapping[str, Any]) -> dict[Any, str]:
  """Returns {variable.ref(): path}, for example 'core/gates/kernel'.

  Keras names every kernel 'kernel:0'. A path is made of the attributes that
  lead to a variable, the shortest way from the first root that has it. Roots
  are read in order.

  Args:
    roots: {first part of the path: trackable}, as `tf.train.Checkpoint` takes
      them.
  """
  paths: dict[Any, str] = {}
  seen = {}  # Nodes by their id; held, since a freed one's id is used again.
  for start, root in roots.items():
    waiting = [(start, root)]
    for path, node in waiting:  # It grows: nearer ones come first.
      if id(node) in seen:
        continue
      seen[id(node)] = node
      if isinstance(node, tf.Variable):
        paths[node.ref()] = path
        continue
      waiting += [
          (f'{path}/{name.removeprefix("_")}', child)
          for name, child in tf.train.TrackableView.children(node).items()]
  return paths


def update_paths(update) -> dict[Any, str]:
  """Returns `variable_paths` of all that an update reads and writes.

  An optimizer's variables have its group, their number and their own name:
  'optimizer/all/12/momentum/kernel'.

  Args:
    update: a `training.step.Update`.
  """
  paths = agent_paths(update.agent)
  for group in update.groups:
    for number, variable in enumerate(group.optimizer.variables):
      name = variable.name.partition(':')[0]
      paths.setdefault(
          variable.ref(), f'optimizer/{group.name}/{number}/{name}')
  return variable_paths({'update': update}) | paths


def agent_paths(agent) -> dict[Any, str]:
  """Returns `variable_paths` of an agent: its parts, then the rest.

  Args:
    agent: a built `Agent`.
  """
  return variable_paths({**agent.parts, 'agent': agent})
