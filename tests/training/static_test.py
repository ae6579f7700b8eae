"""The update is what a TPU takes: static, stateless, free of host operations.

What cannot be run here is inspected: the graph that TensorFlow traces, and the
module that XLA makes of the whole update, optimizer included.
"""

import re

import small_agent
import tensorflow as tf

from dv3.training import distribution
from dv3.training import step

# What may have a state: variables, and calls of what is looked into itself.
STATEFUL = {
    'VarHandleOp', 'ReadVariableOp', 'AssignVariableOp',
    'AssignAddVariableOp', 'AssignSubVariableOp', 'StatefulPartitionedCall',
    'While', 'If', 'Placeholder', 'VariableShape'}
DYNAMIC = {'resource', 'variant'}  # Types of handles, which have no shape.
HOST = re.compile(
    r'\b(infeed|outfeed|send|send-done|recv|recv-done|rng|'
    r'rng-get-and-update-state)\(|custom_call_target="([^"]*)"|'
    r'\[[^\]]*(<=)[^\]]*\]')


def functions(concrete):
  """Returns the graphs of a function and of all that it calls."""
  graphs, found = [concrete.graph], {}
  while graphs:
    graph = graphs.pop()
    if graph.name in found:
      continue
    found[graph.name] = graph
    graphs += [
        x.graph for x in graph._functions.values() if hasattr(x, 'graph')]
  return list(found.values())


def graph_problems(concrete):
  """Returns what a TPU would not take of a traced function."""
  problems = []
  for graph in functions(concrete):
    for operation in graph.get_operations():
      what = f'{operation.type} {operation.name}'
      if operation.op_def.is_stateful and operation.type not in STATEFUL:
        problems.append(f'{what} has a state')
      for tensor in (*operation.inputs, *operation.outputs):
        if tensor.dtype == tf.string:
          problems.append(f'{what} has a string')
        elif tensor.dtype.name not in DYNAMIC and (
            not tensor.shape.is_fully_defined()) and (
                'redundant_placeholder' not in tensor.name):  # Never read.
          problems.append(f'{what} has the shape {tensor.shape}')
  for node in (
      node for function in concrete.graph.as_graph_def().library.function
      for node in function.node_def):
    definition = tf.raw_ops.__dict__.get(node.op)
    if definition is not None and any(
        word in node.op for word in ('PyFunc', 'Print', 'Random', 'Summary')
    ) and not node.op.startswith('Stateless'):
      problems.append(f'{node.op} {node.name} in a function')
  return sorted(set(problems))


def module_problems(text):
  """Returns what talks to the host, or has no fixed shape, in an HLO module."""
  return sorted({match[0] for match in HOST.finditer(text)})


def make_update():
  agent = small_agent.make('bfloat16')
  agent.build()
  return step.make_update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part('optimizer', 'laprop')),), seed=0,
      jit_compile=False)


def tensors(seed):
  return {
      name: tf.constant(x)
      for name, x in small_agent.batch(size=2, length=3, seed=seed).items()}


def test_the_graph_is_static_stateless_and_free_of_the_host():
  update = make_update()
  # As training calls it with train.steps_per_loop = 2.
  concrete = update._step.get_concrete_function([tensors(0), tensors(1)])
  gradients = update.gradients.get_concrete_function(
      tensors(0), tf.constant(0, tf.int64), tf.constant(0))
  # What is nested in the update is a graph of its own.
  for function, least in (concrete, 300), (gradients, 1000):
    assert len(function.graph.get_operations()) > least
    assert not graph_problems(function)


def test_the_whole_update_compiles_to_one_module_without_the_host():
  update = make_update()
  text = tf.function(
      update.replica_step, autograph=False,
      jit_compile=True).experimental_get_compiler_ir(tensors(0))(stage='hlo')
  assert text.startswith('HloModule') and 'dot(' in text
  assert not module_problems(text)


def test_the_inspection_finds_what_is_planted():
  @tf.function(autograph=False)
  def planted(x):
    tf.print('here')
    x += tf.random.normal(x.shape)
    x += tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), [2])
    inner = tf.cond(
        x[0] > 0, lambda: tf.random.uniform([2]), lambda: tf.zeros([2]))
    return tf.boolean_mask(x, x > 0), inner
  found = ' '.join(graph_problems(planted.get_concrete_function(
      tf.TensorSpec([2], tf.float32))))
  for word in (
      'PrintV2', 'RandomStandardNormal', 'EagerPyFunc', 'RandomUniform ',
      'has the shape', 'has a string'):
    assert word in found, (word, found)
  sample = (
      '%a = f32[2]{0} infeed(%t)\n%b = f32[<=4]{0} add(%a, %a)\n'
      '%c = f32[2]{0} custom-call(%a), custom_call_target="python_callback"')
  assert len(module_problems(sample)) == 3
