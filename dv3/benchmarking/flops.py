"""Floating-point operations of an update, from the shapes of the parts.

A product of matrices [n, i] and [i, o] counts 2 n i o, a convolution 2 times
its kernel's size for every output pixel. Norms, activations, losses and
optimizers are left out: they are bound by memory and count below one percent.

*Model* FLOPs are what the algorithm asks for, however it is computed: with
R = B T replayed steps, H imagined steps from each and W(part) multiplications
of a part a row,

  encoder              2 R (3 W - first)
  core, filtering      2 R (3 W(advance + posterior) - action)
  core, prior (KL)     2 R 3 W(prior)
  decoder, reward and continue heads     2 R 3 W each
  core, imagination    2 R H W(advance + prior)
  actor                2 R (H + 1) (4 W - first)    sampled, then trained
  reward, continue, slow critic in dreams     2 R (H + 1) W each
  critic in dreams     2 R (H + 1) (3 W - first)
  critic on replay     2 R (3 W + W), the slow one included
  back through dreams  2 R H W each of advance + prior, reward, critic, continue

where 3 = forward, gradient of the weights, gradient of the inputs; `first`
are the kernels that read data or dreams, whose inputs need no gradient. The
last line is of losses that train the actor through the dynamics: gradients of
inputs alone, of whichever critic the returns bootstrap from, and of the
continue head where its mean is used and not its mode. This is how the peers in
docs/performance.md are counted. *Executed* FLOPs are those of the traced graph,
with what is computed twice or saved by a trick.
"""

import math
from typing import Any
from typing import NamedTuple

import tensorflow as tf

_COUNTED = {
    'dynamics', 'representation', 'reconstruction', 'reward', 'continue',
    'actor', 'critic', 'critic_replay'}
_LOOPS = ('While', 'StatelessWhile')
_CALLS = ('PartitionedCall', 'StatefulPartitionedCall')


def model_flops(agent, batch_size: int, length: int) -> dict[str, float]:
  """Returns the model FLOPs of one update by part; their sum is the update's.

  Args:
    agent: the built agent.
    batch_size: B, sequences over all replicas.
    length: T, trained steps of a sequence.
  """
  rows = batch_size * length
  names = _losses(agent)
  behavior = any(loss.PHASE == 'behavior' for loss in agent.losses)
  dreams = rows * (agent.imagination_horizon + 1)
  observe, imagine, prior, action = _core(agent.core)
  encoder, first = multiplications(agent.encoder)
  weight = {
      name: multiplications(part)[0] for name, part in agent.parts.items()
      if name not in ('core', 'encoder', 'slow_critic')}
  count = {
      'encoder': rows * (3 * encoder - first),
      'observe': rows * (3 * observe - action)}
  if 'dynamics' in names:
    count['prior'] = rows * 3 * prior
  if 'reconstruction' in names:
    count['decoder'] = rows * 3 * weight['decoder']
  for name in ('reward', 'continue'):
    if name in names:
      count[name] = rows * 3 * weight[name]
  if behavior:
    count['imagine'] = rows * agent.imagination_horizon * imagine
    count['dream_heads'] = dreams * (
        weight['reward'] + weight['continue'] + weight['critic'])
    count['actor'] = dreams * weight['actor']
    count['critic'] = dreams * weight['critic']
  if any(loss.imagination_gradient for loss in agent.losses):
    back = imagine + weight['reward'] + weight['critic']
    if not agent.hard_continue:
      back += weight['continue']
    count['dream_gradient'] = rows * agent.imagination_horizon * back
  if 'actor' in names:
    count['actor'] += dreams * (
        3 * weight['actor'] - multiplications(agent.actor)[1])
  if 'critic' in names:
    count['critic'] += dreams * (
        2 * weight['critic'] - multiplications(agent.critic)[1])
  if 'critic_replay' in names:
    count['critic_replay'] = rows * 4 * weight['critic']
  return {name: 2.0 * value for name, value in count.items()}


def uncounted(agent) -> list[str]:
  """Returns the names of losses that `model_flops` does not know."""
  return sorted(_losses(agent) - _COUNTED)


def _losses(agent) -> set[str]:
  """Returns the names of the agent's losses, without observation keys."""
  return {
      name.partition('/')[0] for loss in agent.losses
      for name in loss.names(agent.parts)}


def multiplications(part) -> tuple[int, int]:
  """Returns the multiplications of a part for one row, and those of its input.

  Dense and block-diagonal kernels multiply each of their numbers once a row.
  A part whose kernels meet more than one input a row, as those of convolutions
  do, says so by a method `multiplications()` with this result.

  Returns:
    (all, those of the kernels that read the part's input).
  """
  own = getattr(part, 'multiplications', None)
  if own:
    return own()
  inner = [
      x for x in (
          getattr(part, 'vector', None), getattr(part, 'image', None),
          *getattr(part, 'further_images', ())) if isinstance(x, tf.Module)]
  if inner:
    counts = [multiplications(x) for x in inner]
    return sum(x for x, _ in counts), sum(x for _, x in counts)
  hidden = getattr(getattr(part, 'mlp', None), 'hidden', None)
  total = _kernels(part)
  return total, _kernels(hidden[0]) if hidden else total


def _core(core) -> tuple[int, int, int, int]:
  """Returns the multiplications of a core for one row.

  Attributes called prior... serve imagination and the KL, those called
  posterior... filtering, all others both.

  Returns:
    (of filtering, of imagination, of the prior alone, of the action's kernel).
  """
  total = _kernels(core)
  part = lambda prefix: sum(
      _kernels(value) for name, value in vars(core).items()
      if name.startswith(prefix) and isinstance(value, tf.Module))
  prior, posterior = part('prior'), part('posterior')
  return total - prior, total - posterior, prior, part('action_in')


def _kernels(part) -> int:
  return sum(_size(v) for v in part.trainable_variables if v.shape.rank >= 2)


def _size(variable) -> int:
  return math.prod(variable.shape)


class _Place(NamedTuple):
  """Where an operation is: a graph, and the call that it is the function of.

  Attributes:
    graph: the graph.
    call: the operation that calls it; None for the outermost graph, loops and
      branches.
    outer: the place of that operation.
  """

  graph: Any
  call: Any = None
  outer: Any = None


def executed_flops(function) -> float:
  """Counts the products and convolutions that a traced function runs.

  Loops count as often as they may run at most, of branches the dearest.

  Args:
    function: a `ConcreteFunction` with static shapes.

  Raises:
    ValueError: for a loop whose number of rounds the graph does not tell.
  """
  return _graph(_Place(function.graph), [
      *(x.op for x in function.outputs), *function.graph.control_outputs])


def _graph(place, operations) -> float:
  """Counts what leads to some operations of a graph."""
  total, seen, waiting = 0.0, set(), list(operations)
  while waiting:
    operation = waiting.pop()
    if operation.name in seen:
      continue
    seen.add(operation.name)
    total += _operation(place, operation)
    waiting += [x.op for x in operation.inputs]
    waiting += operation.control_inputs
  return total


def _operation(place, operation) -> float:
  """Counts one operation, with the functions that it calls."""
  kind, inputs, outputs = operation.type, operation.inputs, operation.outputs
  size = lambda tensor: math.prod(tensor.shape)
  if kind == 'MatMul':
    inner = inputs[0].shape[0 if operation.get_attr('transpose_a') else 1]
    return 2.0 * size(outputs[0]) * inner
  if kind in ('BatchMatMul', 'BatchMatMulV2', 'BatchMatMulV3'):
    inner = inputs[0].shape[-2 if operation.get_attr('adj_x') else -1]
    return 2.0 * size(outputs[0]) * inner
  if kind == 'Einsum':
    terms = operation.get_attr('equation').decode().split('->')[0].split(',')
    lengths = {}
    for term, tensor in zip(terms, inputs, strict=True):
      lengths |= dict(zip(term, tensor.shape, strict=True))
    return 2.0 * math.prod(lengths.values()) if len(terms) > 1 else 0.0
  if kind == 'Conv2D':
    return 2.0 * size(outputs[0]) * math.prod(inputs[1].shape[:3])
  if kind == 'Conv2DBackpropInput':
    return 2.0 * size(inputs[2]) * math.prod(inputs[1].shape[:3])
  if kind == 'Conv2DBackpropFilter':
    return 2.0 * size(inputs[2]) * math.prod(outputs[0].shape[:3])
  if kind in _LOOPS:
    return _trips(place, operation) * _called(place, operation, 'body')
  if kind in _CALLS:
    return _called(place, operation, 'f')
  if kind in ('If', 'StatelessIf'):
    return max(
        _called(place, operation, name)
        for name in ('then_branch', 'else_branch'))
  return 0.0


def _called(place, operation, attribute) -> float:
  """Counts a function that an operation calls."""
  inner = _inside(place, operation, attribute)
  return _graph(inner, [
      *(x.op for x in inner.graph.outputs), *inner.graph.control_outputs])


def _inside(place, operation, attribute) -> _Place:
  """Returns the place within a function that an operation calls."""
  name = operation.get_attr(attribute).name
  graph = place.graph
  while graph is not None:
    found = graph._functions.get(name)  # pylint: disable=protected-access
    if found is not None:
      call = operation if operation.type in _CALLS else None
      return _Place(found.graph, call, place)
    graph = getattr(graph, 'outer_graph', None)
  raise ValueError(f'the graph has no function {name}')


def _trips(place, operation) -> int:
  """Returns how often a loop runs at most: its second input, by its form."""
  tensor = operation.inputs[1]
  while True:
    value = tf.get_static_value(tensor)
    if value is not None and value >= 0:  # -1 stands for no limit.
      return int(value)
    source, index = tensor.op, tensor.value_index
    if source.type in _LOOPS:
      # A gradient's loop takes the number from its forward loop's results.
      tensor = source.inputs[index]
    elif source.type == 'Identity':
      tensor = source.inputs[0]
    elif source.type in _CALLS:
      # A loop that a persistent tape sees is in a function of its own.
      place = _inside(place, source, 'f')
      tensor = place.graph.outputs[index]
    elif source.type == 'Placeholder' and place.call is not None:
      names = [x.name for x in place.graph.inputs]
      tensor = place.call.inputs[names.index(tensor.name)]
      place = place.outer
    else:
      raise ValueError(f'{operation.name} has no static number of rounds')
