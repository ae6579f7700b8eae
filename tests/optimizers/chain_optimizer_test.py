"""What LaProp and Adam share: that any Keras model can train with them."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3 import registry
from dv3.optimizers import adam
from dv3.optimizers import clipping
from dv3.optimizers import laprop
from dv3.optimizers import schedules

KINDS = [laprop.LaProp, adam.Adam]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype(np.float32)
Y = (X @ [[1.0], [-2.0], [0.5]] + 0.3).astype(np.float32)


def variables():
  rng = np.random.default_rng(1)
  return [
      tf.Variable(rng.normal(size=(3, 2)).astype(np.float32), name='kernel'),
      tf.Variable(np.zeros(2, np.float32), name='bias')]


def gradients(seed):
  rng = np.random.default_rng(seed)
  return [
      tf.constant(rng.normal(size=(3, 2)).astype(np.float32)),
      tf.constant(rng.normal(size=2).astype(np.float32))]


def steps(optimizer, trained, seeds):
  for seed in seeds:
    optimizer.apply_gradients(
        list(zip(gradients(seed), trained, strict=True)))
  return [v.numpy() for v in trained]


@pytest.mark.parametrize('cls', KINDS)
def test_a_compiled_keras_model_learns(cls):
  model = keras.Sequential([keras.layers.Dense(1)])
  model.compile(
      optimizer=cls(learning_rate=3e-2, warmup_updates=5), loss='mse')
  history = model.fit(X, Y, epochs=30, batch_size=16, verbose=0).history
  assert history['loss'][-1] < 0.05 * history['loss'][0]


def test_a_saved_keras_model_goes_on_training_the_same(tmp_path):
  model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
  model.compile(optimizer=laprop.LaProp(
      learning_rate=1e-2, schedule='linear', anneal_updates=50,
      warmup_updates=2), loss='mse')
  fit = lambda m: m.fit(X, Y, batch_size=16, verbose=0, shuffle=False)
  fit(model)
  model.save(tmp_path / 'model.keras')
  loaded = keras.models.load_model(tmp_path / 'model.keras')
  assert isinstance(loaded.optimizer, laprop.LaProp)
  fit(model)
  fit(loaded)
  for one, other in zip(model.weights, loaded.weights, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('cls', KINDS)
def test_configuration_round_trip(cls):
  optimizer = cls(
      learning_rate=1e-2, beta1=0.8, schedule='piecewise',
      points=((0, 1.0), (4, 0.1)), warmup_updates=2, weight_decay=0.1)
  config = json.loads(json.dumps(optimizer.get_config()))
  copy = cls.from_config(config)
  np.testing.assert_array_equal(
      steps(optimizer, variables(), range(4))[0],
      steps(copy, variables(), range(4))[0])
  assert json.loads(json.dumps(copy.get_config())) == config
  serialized = keras.optimizers.serialize(optimizer)
  assert isinstance(keras.optimizers.deserialize(serialized), cls)


@pytest.mark.parametrize('cls', KINDS)
def test_checkpoint_round_trip(cls, tmp_path):
  def make():
    trained = variables()
    optimizer = cls(learning_rate=1e-2, warmup_updates=3)
    optimizer.build(trained)
    return optimizer, trained, tf.train.Checkpoint(
        optimizer=optimizer, trained=trained)

  optimizer, trained, checkpoint = make()
  steps(optimizer, trained, range(3))
  path = checkpoint.write(str(tmp_path / 'checkpoint'))
  expected = steps(optimizer, trained, range(3, 6))
  optimizer, trained, checkpoint = make()
  checkpoint.read(path).assert_consumed().assert_existing_objects_matched()
  actual = steps(optimizer, trained, range(3, 6))
  for a, b in zip(actual, expected, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('cls', KINDS)
def test_compiled_by_xla(cls):
  expected = steps(
      cls(learning_rate=1e-2, warmup_updates=2), variables(), range(4))
  compiled = cls(learning_rate=1e-2, warmup_updates=2, jit_compile=True)
  actual = steps(compiled, variables(), range(4))
  # The same as one part of a function that XLA compiles.
  optimizer, trained = cls(learning_rate=1e-2, warmup_updates=2), variables()
  optimizer.build(trained)
  step = tf.function(
      lambda g: optimizer.apply_gradients(list(zip(g, trained, strict=True))),
      jit_compile=True, autograph=False)
  for seed in range(4):
    step(gradients(seed))
  for a, b, c in zip(actual, expected, trained, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(c, b, rtol=1e-5)


@pytest.mark.parametrize('cls', KINDS)
def test_gradients_of_zeros_change_nothing(cls):
  trained = variables()
  before = [v.numpy() for v in trained]
  optimizer = cls(warmup_updates=0)
  for _ in range(3):
    optimizer.apply_gradients([(tf.zeros_like(v), v) for v in trained])
  for old, variable in zip(before, trained, strict=True):
    np.testing.assert_array_equal(variable, old)


def test_a_gradient_of_none_leaves_its_variable_and_slots():
  trained = variables()
  optimizer = laprop.LaProp(warmup_updates=0)
  optimizer.build(trained)
  kernel, bias = (v.numpy() for v in trained)
  optimizer.apply_gradients([(None, trained[0]), (tf.ones(2), trained[1])])
  np.testing.assert_array_equal(trained[0], kernel)
  assert not np.array_equal(trained[1], bias)
  for slot in optimizer.variables:
    if slot.name.endswith('kernel:0'):
      np.testing.assert_array_equal(slot, np.zeros((3, 2)))
  with pytest.raises(ValueError, match='every gradient is None'):
    optimizer.apply_gradients([(None, v) for v in trained])


def test_sparse_gradients_become_dense():
  table = tf.Variable(np.ones((4, 2), np.float32))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(tf.gather(table, [1, 1, 3]))
  gradient = tape.gradient(loss, table)
  assert isinstance(gradient, tf.IndexedSlices)
  laprop.LaProp(0.1, warmup_updates=0).apply_gradients([(gradient, table)])
  np.testing.assert_allclose(
      table, [[1, 1], [0.9, 0.9], [1, 1], [0.9, 0.9]], rtol=1e-4)


def test_constraints_hold():
  variable = tf.Variable([0.01], constraint=keras.constraints.non_neg())
  laprop.LaProp(0.1, warmup_updates=0).apply_gradients(
      [(tf.ones(1), variable)])
  np.testing.assert_array_equal(variable, [0.0])


def test_weight_decay_is_for_kernels():
  decayed = steps(laprop.LaProp(
      0.1, warmup_updates=0, weight_decay=0.5), variables(), [0])
  plain = steps(laprop.LaProp(0.1, warmup_updates=0), variables(), [0])
  np.testing.assert_allclose(
      decayed[0], plain[0] - 0.1 * 0.5 * variables()[0], rtol=1e-5)
  np.testing.assert_array_equal(decayed[1], plain[1])


def test_learning_rate_can_be_read_and_if_constant_set():
  optimizer = laprop.LaProp(1e-2, warmup_updates=4)
  steps(optimizer, variables(), range(3))
  np.testing.assert_allclose(optimizer.learning_rate, 1e-2 * 2 / 4)
  constant = laprop.LaProp(1e-2, warmup_updates=0)
  constant.learning_rate = 0.0
  for old, new in zip(
      variables(), steps(constant, variables(), range(3)), strict=True):
    np.testing.assert_array_equal(old, new)


def test_a_schedule_object_rules_alone():
  schedule = schedules.Linear(1e-2, 10, final=0.0)
  mine = laprop.LaProp(schedule)
  copy = laprop.LaProp.from_config(mine.get_config())
  for optimizer in (mine, copy):
    trained = variables()
    optimizer.apply_gradients([(tf.ones(2), trained[1])])
    np.testing.assert_allclose(trained[1], [-1e-2, -1e-2], rtol=1e-4)


def test_no_momentum_is_beta1_of_zero():
  trained = [tf.Variable([1.0, -1.0])]
  optimizer = laprop.LaProp(0.1, beta1=0.0, warmup_updates=0, agc=0.0)
  for gradient in ([1.0, 2.0], [1.0, -2.0]):
    optimizer.apply_gradients([(tf.constant(gradient), trained[0])])
  np.testing.assert_allclose(trained[0], [0.8, -1.0], rtol=1e-3)


def test_variables_of_another_type_are_refused():
  with pytest.raises(errors.UserError, match='float32 variables'):
    laprop.LaProp().build([tf.Variable([1.0], dtype=tf.bfloat16)])


def test_a_forgotten_variable_is_an_error():
  one, other = variables()
  optimizer = laprop.LaProp()
  optimizer.build([one])
  with pytest.raises(KeyError, match='built without'):
    optimizer.apply_gradients([(tf.ones(2), other)])


def test_options_of_keras_that_would_act_elsewhere_are_refused():
  with pytest.raises(TypeError):
    laprop.LaProp(global_clipnorm=1.0)


def test_clipping_by_the_global_norm():
  clipped = clipping.by_global_norm(
      [tf.constant([3.0]), tf.constant([[0.0, 4.0]])], 1.0)
  np.testing.assert_allclose(clipped[0], [0.6], rtol=1e-6)
  np.testing.assert_allclose(clipped[1], [[0.0, 0.8]], rtol=1e-6)
  for below in (tf.constant([3.0]), tf.zeros(2)):
    np.testing.assert_array_equal(
        clipping.by_global_norm([below], 5.0)[0], below)


def test_registered():
  assert registry.get('optimizer', 'laprop') is laprop.LaProp
  assert registry.get('optimizer', 'adam') is adam.Adam
