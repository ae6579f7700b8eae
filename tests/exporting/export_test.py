"""Exported programs hold what TensorFlow computes.

With the variable DV3_JAX_PYTHON, the path of a Python that has JAX, the
programs are run there too, without TensorFlow.
"""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import small_agent
import tensorflow as tf

from dv3 import errors
from dv3.exporting import programs
from dv3.exporting import stablehlo
from dv3.nets import xla
from dv3.training import distribution
from dv3.training import policy as policy_lib
from dv3.training import step

JAX = os.environ.get('DV3_JAX_PYTHON')
ROOT = pathlib.Path(__file__).absolute().parents[2]
RUNTIME = ROOT / 'dv3/exporting/jax_runtime.py'


@pytest.fixture(name='agent', scope='module')
def make_agent():
  agent = small_agent.make()
  agent.build()
  return agent


def make_update(agent, jit_compile=False):
  return step.make_update(
      agent, distribution.make_strategy(), (('all', ('*',), small_agent.part(
          'optimizer', 'laprop', learning_rate=1e-2, warmup_updates=0)),),
      seed=3, jit_compile=jit_compile)


def test_the_runtime_needs_jax_alone():
  tree = ast.parse(RUNTIME.read_text())
  modules = {
      name.partition('.')[0] for node in ast.walk(tree) for name in (
          [x.name for x in node.names] if isinstance(node, ast.Import)
          else [node.module] if isinstance(node, ast.ImportFrom) else [])}
  assert modules - sys.stdlib_module_names == {'jax', 'jaxlib', 'numpy'}


def check_saved(program, folder):
  """Saves a program and compares its files; runs it where there is JAX."""
  program.save(folder)
  document = json.loads((folder / 'program.json').read_text())
  for field, values in (
      ('arguments', program.arguments), ('results', program.results)):
    names = [name for name, _ in values]
    assert len(set(names)) == len(names)
    assert len(document[field]) == len(values)
    for (name, value), entry in zip(values, document[field], strict=True):
      assert entry.items() >= {
          'name': name, 'shape': list(value.shape),
          'dtype': tf.as_dtype(value.dtype).name}.items()
  for (_, value), entry in zip(
      program.arguments, document['arguments'], strict=True):
    value = np.asarray(value, np.float64)
    np.testing.assert_allclose(
        [entry[k] for k in ('mean', 'deviation', 'least', 'greatest')],
        [value.mean(), value.std(), value.min(), value.max()])
  text = (folder / 'program.stablehlo').read_text()
  assert text == program.text
  # What other translators take: attributes may be of other dialects.
  operations = set(re.findall(r'^ *(?:%\S+ = )?"?(\w+)\.\w+', text, re.M))
  assert operations <= {'stablehlo', 'chlo', 'func'}
  for file, prefix, values in (
      ('inputs', 'arg', program.arguments),
      ('expected', 'out', program.results)):
    if not program.was_run:
      assert not (folder / f'{file}.npz').exists()
      continue
    with np.load(folder / f'{file}.npz') as saved:
      assert len(saved.files) == len(values)
      for i, (_, value) in enumerate(values):
        np.testing.assert_array_equal(saved[f'{prefix}_{i}'], value)
  if JAX:
    said = subprocess.run(
        [JAX, str(RUNTIME), str(folder), '--repeats=1'], check=True,
        text=True, capture_output=True,
        env={**os.environ, 'JAX_ENABLE_X64': '1', 'JAX_PLATFORMS': 'cpu'})
    if not program.was_run:
      return
    assert 'greatest relative difference' in said.stdout
    with np.load(folder / 'found.npz') as found:
      assert len(found.files) == len(program.results)
      for i, (name, value) in enumerate(program.results):
        assert found[f'out_{i}'].dtype == value.dtype
        np.testing.assert_allclose(
            np.asarray(found[f'out_{i}'], np.float64),
            np.asarray(value, np.float64), rtol=1e-4, atol=1e-5,
            err_msg=name)


def test_variables_are_arguments_and_their_new_values_results(tmp_path):
  counter = tf.Variable([1.0, 2.0], name='counter')
  kernel = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name='kernel')
  def function(x):
    counter.assign_add(x)
    return {'y': tf.linalg.matvec(kernel, x)}
  program = stablehlo.export(
      function, np.array([1.0, 1.0], np.float32), names=('x',))
  assert [name for name, _ in program.arguments] == [
      'x', 'variable/counter:0', 'variable/kernel:0']
  results = dict(program.results)
  np.testing.assert_array_equal(results['y'], [3, 7])
  np.testing.assert_array_equal(results['variable/counter:0'], [2, 3])
  np.testing.assert_array_equal(dict(program.arguments)[
      'variable/counter:0'], [1, 2])
  assert program.aliases == {1: 1}
  check_saved(program, tmp_path / 'program')


def test_a_variable_that_is_returned_as_it_is_needs_no_other_dialect(tmp_path):
  scale = tf.Variable([1.0, 2.0], name='scale')
  def function(x):
    before = tf.identity(scale)
    scale.assign(x)
    return before, tf.identity(scale)
  program = stablehlo.export(
      function, np.array([3.0, 4.0], np.float32), names=('x',),
      paths={scale.ref(): 'norm/scale'})
  assert [name for name, _ in program.arguments] == [
      'x', 'variable/norm/scale']
  np.testing.assert_array_equal(dict(program.results)['0'], [1, 2])
  np.testing.assert_array_equal(dict(program.results)['1'], [3, 4])
  check_saved(program, tmp_path / 'program')


def test_a_program_that_is_not_run_is_the_same_without_values(tmp_path):
  counter = tf.Variable([1.0, 2.0], name='counter')
  def function(x):
    counter.assign_add(x)
    return {'y': tf.reduce_sum(x)}
  arguments = [np.array([1.0, 5.0], np.float32)]
  program = stablehlo.export(function, *arguments, names=('x',), run=False)
  assert not program.was_run
  np.testing.assert_array_equal(counter, [1, 2])
  check_saved(program, tmp_path / 'program')
  ran = stablehlo.export(function, *arguments, names=('x',))
  assert ran.was_run
  assert [(n, x.shape, tf.as_dtype(x.dtype)) for n, x in program.results] == [
      (n, x.shape, tf.as_dtype(x.dtype)) for n, x in ran.results]
  assert program.aliases == ran.aliases


def test_what_cannot_be_compiled_is_a_clear_error():
  def function(x):
    return tf.py_function(lambda x: x, [x], tf.float32)
  with pytest.raises(errors.UserError, match='XLA cannot compile it'):
    stablehlo.export(function, np.zeros(2, np.float32), names=('x',))


def test_policy_program_acts_like_the_policy(agent, tmp_path):
  program = programs.policy(agent, seed=5, num_envs=3)
  check_saved(program, tmp_path / 'policy')
  policy = policy_lib.Policy(agent, seed=5)
  obs = {
      name: np.zeros((3, *spec.shape), spec.dtype)
      for name, spec in agent.obs_spec}
  actions, _, state = policy(
      obs, np.ones(3, bool), policy.initial(3), 0)
  results = dict(program.results)
  for name, value in actions.items():
    np.testing.assert_allclose(
        results[f'actions/{name}'], value, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
      results['state/latent/deter'], state.latent.deter, rtol=1e-5, atol=1e-6)


def test_saved_model_acts_like_the_policy(agent, tmp_path):
  programs.ServedPolicy(agent, seed=5).save(str(tmp_path / 'model'))
  served = tf.saved_model.load(str(tmp_path / 'model'))
  policy = policy_lib.Policy(agent, seed=5)
  batch = small_agent.batch(size=3, length=4)
  ours, theirs = policy.initial(3), served.initial(3)
  flat = served.signatures['initial'](num_envs=tf.constant(3))
  for t in range(4):
    obs = {key: batch[key][:, t] for key in small_agent.OBS_SPEC}
    is_first = batch['is_first'][:, t]
    actions, _, ours = policy(obs, is_first, ours, t)
    result = served.step(obs, is_first, theirs, tf.constant(t, tf.int64))
    theirs = result['state']
    flat = served.signatures['serving_default'](
        is_first=tf.constant(is_first), call_index=tf.constant(t, tf.int64),
        **{f'obs_{key}': tf.constant(x) for key, x in obs.items()},
        **{name: x for name, x in flat.items() if name.startswith('state_')})
    for name, value in actions.items():
      np.testing.assert_allclose(
          result['actions'][name], value, rtol=1e-5, atol=1e-6)
      np.testing.assert_allclose(
          flat[f'action_{name.replace("/", "_")}'], value, rtol=1e-5,
          atol=1e-6)


@pytest.mark.slow
def test_saved_model_has_names_for_all_observations(tmp_path):
  keys = ['my obs.x-y', '\u00fc', 'a/b', 'a_b', 'a_b_2']
  agent = small_agent.make(
      obs_spec=dict.fromkeys(keys, small_agent.OBS_SPEC['vector']))
  agent.build()
  programs.ServedPolicy(agent, seed=5).save(str(tmp_path))
  signature = tf.saved_model.load(str(tmp_path)).signatures['serving_default']
  names = set(signature.structured_input_signature[1])
  assert {x for x in names if x.startswith('obs_')} == {
      'obs_my_obs_x_y', 'obs__', 'obs_a_b', 'obs_a_b_2', 'obs_a_b_2_2'}


def test_gradients_are_those_of_tensorflow(agent, tmp_path):
  update = make_update(agent)
  batch = small_agent.batch(size=2, length=3)
  program = programs.gradients(update, batch)
  check_saved(program, tmp_path / 'gradients')
  batch = {name: tf.constant(x) for name, x in batch.items()}
  total, outputs, gradients = tf.function(
      update.loss_and_gradients, autograph=False)(
          batch, tf.constant(0, tf.int64))
  results = dict(program.results)
  np.testing.assert_allclose(results['total'], total, rtol=1e-5)
  for name, value in outputs.losses.items():
    np.testing.assert_allclose(
        results[f'outputs/losses/{name}'], value, rtol=1e-5, atol=1e-6)
  found = [x for name, x in program.results if name.startswith('gradients/')]
  for variable, ours, theirs in zip(
      update.trained, gradients, found, strict=True):
    np.testing.assert_allclose(
        theirs, ours, rtol=1e-3, atol=1e-5, err_msg=variable.name)


@pytest.mark.parametrize('jit_compile', [True, 'mixed'])
def test_programs_are_not_for_the_cpu_that_exports_them(
    agent, jit_compile, monkeypatch):
  asked = []
  for_cpu = xla.for_cpu
  def ask():
    asked.append(for_cpu())
    return asked[-1]
  monkeypatch.setattr(xla, 'for_cpu', ask)
  update = make_update(agent, jit_compile)
  batch = small_agent.batch(size=2, length=3)
  tensors = {k: tf.convert_to_tensor(v) for k, v in batch.items()}
  trace = lambda function, *arguments: tf.function(
      function, autograph=False).get_concrete_function(*arguments)
  trace(update.gradients, tensors, tf.constant(0, tf.int64), tf.constant(0))
  assert any(asked) or xla.has_gpu()
  del asked[:]
  trace(update.replica_step, tensors)
  assert asked and not any(asked)


@pytest.mark.slow
def test_whole_update_is_that_of_training(tmp_path):
  agents = [small_agent.make() for _ in range(2)]
  for agent in agents:
    agent.build()
  for ours, theirs in zip(
      agents[0].variables, agents[1].variables, strict=True):
    theirs.assign(ours)
  trained, exported = (make_update(agent) for agent in agents)
  batch = small_agent.batch(size=2, length=3)
  program = programs.whole_update(exported, batch)
  check_saved(program, tmp_path / 'update')
  trained(batch)
  for ours, theirs in zip(
      agents[0].variables, agents[1].variables, strict=True):
    np.testing.assert_allclose(
        ours, theirs, rtol=1e-3, atol=1e-4, err_msg=ours.name)
  results = dict(program.results)
  assert 'variable/core/gates/kernel' in results
  assert program.gflop and program.gflop > 0
  policy = programs.policy(exported.agent, seed=3, num_envs=1, run=False)
  weights = {
      name for name, _ in policy.arguments if name.startswith('variable/')}
  assert weights and weights <= set(results)
  with open(pathlib.Path(tmp_path) / 'update/program.json') as file:
    document = json.load(file)
  for argument, result in document['new_value'].items():
    assert document['arguments'][int(argument)]['name'] == (
        document['results'][result]['name'])


@pytest.mark.parametrize('arguments', [
    ["--gin_param=train.distribution = 'multiworker'"],
    ["--gin_param=train.distribution = 'mirrored'",
     '--gin_param=train.replicas = 2']])
def test_a_configuration_for_several_devices_is_exported_for_one(
    arguments, tmp_path):
  done = subprocess.run(
      [sys.executable, '-m', 'dv3.bin.export', '--gin_file=dreamerv3.gin',
       '--gin_file=size/1m.gin', '--gin_file=task/cartpole.gin',
       '--gin_param=DETER = 16', '--gin_param=HIDDEN = 8',
       '--gin_param=UNITS = 8', '--observations=4', '--actions=2', '--policy',
       '--json', f'--output={tmp_path}', *arguments],
      text=True, capture_output=True, check=False)
  assert done.returncode == 0, done.stderr
  assert set(json.loads(done.stdout)) == {'policy', 'saved_model'}


def test_a_batch_that_depends_on_replicas_is_not_exported(tmp_path):
  done = subprocess.run(
      [sys.executable, '-m', 'dv3.bin.export', '--gin_file=dreamerv3.gin',
       '--gin_file=size/1m.gin', '--gin_file=task/cartpole.gin',
       '--gin_file=dist/scaled.gin', '--observations=4', '--actions=2',
       '--update', f'--output={tmp_path}'],
      text=True, capture_output=True, check=False)
  assert done.returncode == 2
  assert '--update knows no train.scaling' in done.stderr
