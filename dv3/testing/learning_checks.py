"""What losses, balancers and optimizers must do."""

import functools

import numpy as np
import tensorflow as tf

from dv3.distributions import rng as rng_lib
from dv3.testing import model_checks
from dv3.testing import small
from dv3.testing import subjects


def _loss(name, kwargs):
  """Returns (an agent that trains on a loss alone, the loss, a context)."""
  built = small.agent([functools.partial(small.make, 'loss', name, kwargs)])
  rng = np.random.default_rng(0)
  for part in built.parts.values():
    # Far from the start, where zero output layers hide what is before them.
    for variable in part.trainable_variables:
      variable.assign(rng.normal(size=variable.shape) * 0.5)
  loss, = built.losses
  return built, loss, small.context(built)


def loss_is_unreduced(kind, name, kwargs):
  """A loss returns its own names, [B, T'] float32 with T' <= T."""
  del kind
  built, loss, context = _loss(name, kwargs)
  losses, metrics = loss(context)
  assert set(losses) == set(loss.names(built.parts))
  for key, value in losses.items():
    assert value.dtype == tf.float32, key
    shape = tuple(value.shape)
    assert len(shape) == 2 and shape[0] == small.BATCH and (
        shape[1] <= small.LENGTH), (
            f'{key} has the shape {shape}; a loss is returned for each step, '
            f'[{small.BATCH}, up to {small.LENGTH}] here, and the agent takes '
            'its mean')
    assert np.isfinite(value).all(), key
  for key, value in metrics.items():
    assert np.ndim(value) == 0, f'the metric {key} is no scalar'


def loss_trains(kind, name, kwargs):
  """An agent trains on it: gradients reach it, and all of its own variables."""
  del kind
  built, loss, _ = _loss(name, kwargs)
  subjects.fill_zeros(loss.trainable_variables)
  with tf.GradientTape() as tape:
    total, outputs = built.loss(small.batch(), rng_lib.Rng(0))
  assert np.isfinite(total)
  assert outputs.per_step.shape == [small.BATCH, small.LENGTH]
  own = list(loss.trainable_variables)
  model = [
      v for part in built.parts.values() for v in part.trainable_variables]
  gradients = tape.gradient(total, [*own, *model])
  # Zeros will do: a threshold (free nats) may hold these numbers back.
  assert any(x is not None for x in gradients), (
      'no gradient reaches any variable')
  missing = subjects.unreached(own, gradients[:len(own)])
  assert not missing, f'no gradient reaches {missing}'


def loss_calls_repeat(kind, name, kwargs):
  """Calls give the same again, under XLA too, and make no variable."""
  del kind
  _, loss, context = _loss(name, kwargs)
  _check_calls(lambda: loss(context), loss.variables)


def loss_checkpoint_round_trip(kind, name, kwargs, folder):
  """Another instance has the variables of a checkpoint."""
  del kind
  built, loss, _ = _loss(name, kwargs)
  subjects.scramble(loss.variables)
  path = tf.train.Checkpoint(loss=loss).write(str(folder / 'loss'))
  other = small.make('loss', name, kwargs)
  other.build(built.parts)
  tf.train.Checkpoint(loss=other).read(path).assert_consumed()
  for a, b in zip(loss.variables, other.variables, strict=True):
    np.testing.assert_array_equal(a, b, a.name)


def _balancer(name, kwargs):
  """Returns (built balancer, {name: mean})."""
  names = ('dynamics', 'representation', 'reward', 'reconstruction/image')
  part = small.make('balancer', name, kwargs)
  part.build(names)
  return part, {k: tf.constant(float(i + 1)) for i, k in enumerate(names)}


def balancer_sums_to_a_scalar(kind, name, kwargs):
  """A balancer gives a scalar that grows with losses, and with no other sign.

  Losses may have no weight; a linear balancer is linear.
  """
  del kind
  part, means = _balancer(name, kwargs)
  total, metrics, weights = _weights(part, means)
  assert total.shape.rank == 0 and np.isfinite(total)
  assert any(weights.values()), 'the total depends on no loss'
  assert all(w >= 0 for w in weights.values()), (
      f'a loss would be made larger: the gradients are {weights}')
  assert all(np.ndim(v) == 0 for v in metrics.values())
  if part.linear:
    other = _weights(part, {k: 2.0 * v for k, v in means.items()})[-1]
    for key, weight in weights.items():
      np.testing.assert_allclose(
          weight, other[key], rtol=1e-5,
          err_msg=f'linear = True, but the gradient of {key} depends on losses')


def _weights(part, means):
  """Returns (total, metrics, {name: gradient of the total})."""
  with tf.GradientTape() as tape:
    tape.watch(list(means.values()))
    total, metrics = part(means)
  gradients = tape.gradient(total, list(means.values()))
  return total, metrics, {
      k: 0.0 if g is None else float(g)
      for k, g in zip(means, gradients, strict=True)}


def balancer_checkpoint_round_trip(kind, name, kwargs, folder):
  """Another instance weighs by the variables of a checkpoint."""
  del kind
  part, means = _balancer(name, kwargs)
  subjects.scramble(part.variables)
  path = tf.train.Checkpoint(balancer=part).write(str(folder / 'balancer'))
  other, _ = _balancer(name, kwargs)
  tf.train.Checkpoint(balancer=other).read(path).assert_consumed()
  np.testing.assert_allclose(part(means)[0], other(means)[0], rtol=1e-6)


def balancer_trains_its_variables(kind, name, kwargs):
  """Gradients reach all of its own variables."""
  del kind
  part, means = _balancer(name, kwargs)
  variables = part.trainable_variables
  with tf.GradientTape() as tape:
    total, _ = part(means)
  missing = subjects.unreached(variables, tape.gradient(total, variables))
  assert not missing, f'no gradient reaches {missing}'


def balancer_calls_repeat(kind, name, kwargs):
  """Calls give the same again, under XLA too, and make no variable."""
  del kind
  part, means = _balancer(name, kwargs)
  _check_calls(lambda: part(means), part.variables)


def optimizer_descends(kind, name, kwargs):
  """An optimizer lowers a loss; at zero gradients it may decay weights."""
  del kind
  optimizer = small.make('optimizer', name, kwargs)
  variable = tf.Variable([[3.0, -2.0]])
  optimizer.build([variable])
  loss = lambda: float(tf.reduce_sum(variable ** 2))
  begin = loss()
  for _ in range(20):
    optimizer.apply_gradients([(2 * variable, variable)])
  assert loss() < begin
  fresh = small.make('optimizer', name, kwargs)
  still = tf.Variable([1.0, 2.0])
  fresh.build([still])
  fresh.apply_gradients([(tf.zeros(2), still)])
  kept = still.numpy() / [1.0, 2.0]
  assert ((kept > 0.5) & (kept <= 1.0)).all(), (
      f'a step with zero gradients made {still.numpy()} of [1, 2]')


def _optimizer(name, kwargs):
  """Returns (optimizer, variable, function that takes one step)."""
  optimizer = small.make('optimizer', name, kwargs)
  variable = tf.Variable([[3.0, -2.0]], name='kernel')
  optimizer.build([variable])
  return optimizer, variable, lambda: optimizer.apply_gradients(
      [(2 * variable, variable)])


def optimizer_steps_repeat(kind, name, kwargs):
  """Steps in a graph are steps taken eagerly."""
  del kind
  _, eager, take = _optimizer(name, kwargs)
  _, traced, step = _optimizer(name, kwargs)
  step = tf.function(step, autograph=False)
  for _ in range(4):
    take()
    step()
  np.testing.assert_allclose(eager, traced, **model_checks.CLOSE)


def optimizer_checkpoint_round_trip(kind, name, kwargs, folder):
  """After a checkpoint an optimizer goes on as it would have."""
  del kind
  optimizer, variable, take = _optimizer(name, kwargs)
  for _ in range(4):
    take()
  path = tf.train.Checkpoint(
      optimizer=optimizer, variable=variable).write(str(folder / 'optimizer'))
  other, copy, retake = _optimizer(name, kwargs)
  tf.train.Checkpoint(optimizer=other, variable=copy).read(
      path).assert_existing_objects_matched()
  np.testing.assert_array_equal(variable, copy)
  for _ in range(4):
    take()
    retake()
  np.testing.assert_allclose(variable, copy, **model_checks.CLOSE)


def _check_calls(call, variables):
  """Asserts that calls from the same state agree and make no variable.

  Args:
    call: function () -> nest of tensors.
    variables: what it may change.
  """
  before = [tf.identity(v) for v in variables]
  made = []
  def note(create, **kwargs):
    made.append(kwargs.get('name') or 'one without a name')
    return create(**kwargs)
  def again(function):
    for variable, value in zip(variables, before, strict=True):
      variable.assign(value)
    return tf.nest.flatten(function())
  with tf.variable_creator_scope(note):
    expected = again(call)
  assert not made, f'a call made variables: {made}'
  compiled = tf.function(call, jit_compile=True, autograph=False)
  for what, found in (
      ('a second call', again(call)), ('a compiled call', again(compiled))):
    for a, b in zip(expected, found, strict=True):
      np.testing.assert_allclose(a, b, **model_checks.CLOSE, err_msg=what)
