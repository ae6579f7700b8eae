"""What components with tensors must do."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from dv3 import registry
from dv3.cores import base
from dv3.distributions import rng as rng_lib
from dv3.nets import part as part_lib
from dv3.testing import small

CLOSE: dict[str, Any] = {'rtol': 1e-4, 'atol': 1e-5}


_BOTH = {**small.VECTOR, **small.IMAGE}


def _suited(kind, candidates, make, use):
  """Returns (built part, specs) of the first specs that a part takes."""
  problems = []
  for specs in candidates:
    try:
      part = make(specs)
      part.build()
      count = len(part.variables)
      use(part, specs)
      assert len(part.variables) == count, 'a call made variables'
      return part, specs
    except Exception as error:  # noqa: BLE001 - tells which specs suit it
      problems.append(f'{sorted(specs)}: {error}')
  raise AssertionError(f'{kind} takes none of the specs: {problems}')


def _encoder(name, kwargs, dtype='float32'):
  """Returns (built encoder, specs that it takes)."""
  return _suited(
      'encoder', (_BOTH, small.VECTOR, small.IMAGE),
      lambda specs: small.make(
          'encoder', name, kwargs, obs_spec=specs, dtype=dtype),
      lambda part, specs: part(small.observations(specs)))


def _decoder(name, kwargs, dtype='float32'):
  """Returns (built decoder, specs that it takes)."""
  def use(part, specs):
    obs = small.observations(specs)
    for key, dist in part(small.features()).items():
      dist.log_prob(obs[key])
  # Images last: decoders of numbers take pixels too, and err by hundreds.
  return _suited(
      'decoder', (small.VECTOR, small.IMAGE, _BOTH),
      lambda specs: small.make(
          'decoder', name, kwargs, obs_spec=specs,
          feature_spec=small.FEATURES, dtype=dtype), use)


def subject(kind, name, kwargs, dtype='float32'):
  """Returns (built part, function (seed=0) -> float tensors it computes)."""
  if kind == 'encoder':
    part, specs = _encoder(name, kwargs, dtype)
    return part, lambda seed=0: [part(small.observations(specs, seed=seed))]
  if kind == 'decoder':
    part, specs = _decoder(name, kwargs, dtype)
    obs = small.observations(specs)
    return part, lambda seed=0: [
        dist.log_prob(obs[key]) for key, dist in sorted(
            part(small.features(seed=seed)).items())]
  if kind == 'head':
    part = small.make(
        kind, name, kwargs, feature_spec=small.FEATURES,
        action_spec=small.ACTION, dtype=dtype)
    part.build()
    def run(seed=0):
      dist = part(small.features(seed=seed))
      target = tf.stop_gradient(dist.mode()) * 0.5
      return [dist.log_prob(target)]
    return part, run
  part = small.make(kind, name, kwargs, dtype=dtype)
  part.build()
  if kind == 'normalizer':
    return part, lambda seed=0: part.update(
        tf.random.stateless_normal([40, 5], (1, seed)) * 10.0 ** (seed + 1))
  return part, lambda seed=0: _observe_core(part, seed)[0]


def _core_inputs(seed=0):
  sizes = small.SIZES
  lead = (small.BATCH, small.LENGTH)
  # By NumPy: TensorFlow's own numbers differ between eager and compiled code.
  draw = lambda size, i: tf.constant(np.random.default_rng((seed, i)).normal(
      size=(*lead, size)), tf.float32)
  is_first = tf.constant(
      np.arange(small.LENGTH) == np.array([[0], [2], [9]]))
  return draw(sizes['token_size'], 0), draw(sizes['action_size'], 1), is_first


def _observe_core(part, seed=0):
  """Returns ([float tensors], latents, state) of an observed sequence."""
  latents, state = part.observe(
      *_core_inputs(seed), part.initial(small.BATCH), rng_lib.Rng(3))
  values = [*part.features(latents).values(), *part.kl(latents)]
  return values, latents, state


def shapes_and_dtypes(kind, name, kwargs):
  """Outputs have the contract's shapes and dtypes."""
  part, run = subject(kind, name, kwargs)
  lead = [small.BATCH, small.LENGTH]
  for value in run():
    assert value.shape[:2] == lead, value.shape
    assert value.dtype == tf.float32
  if kind == 'encoder':
    assert run()[0].shape == [*lead, part.token_size]
  if kind == 'decoder':
    assert set(part(small.features())) == set(part.keys)
  if kind == 'core':
    values = part.features(_observe_core(part)[1])
    assert {k: v.shape[-1] for k, v in values.items()} == dict(
        part.feature_spec)


def gradients_reach_every_variable(kind, name, kwargs):
  """No trained variable is left out."""
  part, run = subject(kind, name, kwargs)
  variables = part.trainable_variables
  _fill_zeros(variables)  # Output layers would hide the others.
  with tf.GradientTape() as tape:
    total = tf.add_n([tf.reduce_sum(
        x * tf.random.stateless_normal(tf.shape(x), (5, i)))
        for i, x in enumerate(run())])
  missing = [
      v.name for v, found in zip(
          variables, _reached(tape.gradient(total, variables)), strict=True)
      if not found]
  assert variables, 'the part has no trained variables'
  assert not missing, f'no gradient reaches {missing}'


def bfloat16_keeps_variables_float32(kind, name, kwargs):
  """Under mixed_bfloat16 variables stay float32 and outputs are finite."""
  if not part_lib.takes_dtype(registry.get(kind, name)):
    return  # It computes in float32 alone, and the agent says so.
  part, run = subject(kind, name, kwargs, 'mixed_bfloat16')
  for variable in part.trainable_variables:
    assert variable.dtype == tf.float32, variable.name
  for value in run():
    assert np.isfinite(tf.cast(value, tf.float32)).all()
    if kind != 'encoder':
      assert value.dtype == tf.float32, 'losses and features are float32'


def compiled_equals_eager(kind, name, kwargs):
  """XLA computes what eager execution computes; no variable is made late."""
  part, run = subject(kind, name, kwargs)
  count = len(part.variables)
  eager = run()
  compiled = tf.function(run, jit_compile=True, autograph=False)
  for a, b in zip(eager, compiled(), strict=True):
    np.testing.assert_allclose(a, b, **CLOSE)
  tf.function(run, autograph=False)()
  assert len(part.variables) == count, 'a call made variables'


def checkpoint_round_trip(kind, name, kwargs, folder):
  """Another instance computes the same after reading a checkpoint."""
  first, run = subject(kind, name, kwargs)
  for i, variable in enumerate(first.variables):
    variable.assign(tf.random.stateless_normal(variable.shape, (9, i)))
  path = tf.train.Checkpoint(part=first).write(str(folder / 'part'))
  second, other = subject(kind, name, kwargs)
  tf.train.Checkpoint(part=second).read(path).assert_consumed()
  for a, b in zip(run(), other(), strict=True):
    np.testing.assert_allclose(a, b, **CLOSE)


def steps_equal_sequences(kind, name, kwargs):
  """`observe` is `observe_step` at each t, `imagine` is `imagine_step`."""
  del kind
  part, _ = subject('core', name, kwargs)
  tokens, action, is_first = _core_inputs()
  _, latents, last = _observe_core(part)
  state = part.initial(small.BATCH)
  for t in range(small.LENGTH):
    latent, state = part.observe_step(
        tokens[:, t], action[:, t], is_first[:, t], state,
        rng_lib.Rng(3).at(t))
    for a, b in zip(
        tf.nest.flatten(latent), tf.nest.flatten(latents), strict=True):
      np.testing.assert_allclose(a, b[:, t], **CLOSE)
  tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), state, last)
  def policy(features, rng):
    del features
    return rng.normal([small.BATCH, small.SIZES['action_size']])
  dream, actions, end = part.imagine(policy, last, 3, rng_lib.Rng(4))
  assert actions.shape == [small.BATCH, 3, small.SIZES['action_size']]
  state = last
  for t in range(3):
    latent, state = part.imagine_step(
        actions[:, t], state, rng_lib.Rng(4).fold('latent').at(t))
    for a, b in zip(
        tf.nest.flatten(latent), tf.nest.flatten(dream), strict=True):
      np.testing.assert_allclose(a, b[:, t], **CLOSE)
  tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), state, end)


def resets_forget(kind, name, kwargs):
  """After a reset nothing before it has an influence, and before it all has."""
  del kind
  part, _ = subject('core', name, kwargs)
  tokens, action, is_first = _core_inputs()
  rng = rng_lib.Rng(3)
  run = lambda t, a: part.features(part.observe(
      t, a, is_first, part.initial(small.BATCH), rng)[0])
  before = tf.range(small.LENGTH)[None, :, None] < 2
  # The action into the first step of an episode belongs to the one before.
  early = tf.range(small.LENGTH)[None, :, None] < 3
  expected = run(tokens, action)
  changed = set()
  # A few draws of a small core may be the same for other inputs; not all.
  for seed in range(1, 6):
    other = _core_inputs(seed=seed)
    actual = run(
        tf.where(before, other[0], tokens), tf.where(early, other[1], action))
    for key, value in expected.items():
      np.testing.assert_allclose(value[1, 2:], actual[key][1, 2:], **CLOSE)
      if not np.allclose(value[1, :2], actual[key][1, :2]):
        changed.add(key)
  assert changed == set(expected), (
      f'{sorted(set(expected) - changed)} do not depend on the inputs')


def replay_round_trip(kind, name, kwargs):
  """A stored latent gives back the state, in the declared form."""
  del kind
  part, _ = subject('core', name, kwargs)
  _, latents, state = _observe_core(part)
  entry = part.replay_entry(latents)
  for key, spec in part.replay_spec.items():
    assert entry[key].shape == [small.BATCH, small.LENGTH, *spec.shape], key
    assert entry[key].dtype == spec.dtype, key
  last = {key: value[:, -1] for key, value in entry.items()}
  tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, **CLOSE),
      part.state_from_replay(last), state)
  starts = base.starts(part, latents)
  assert all(
      x.shape[0] == small.BATCH * small.LENGTH for x in tf.nest.flatten(starts))


def used_unbuilt_says_so(kind, name, kwargs):
  """A part that was not built raises an error that names `build`.

  Of encoders, decoders and heads the library asks it of its own alone: Keras
  builds others when they are first called.
  """
  suited = {'encoder': _encoder, 'decoder': _decoder}.get(kind)
  specs = suited(name, kwargs)[1] if suited else {}
  part = small.make(
      kind, name, kwargs, feature_spec=small.FEATURES, obs_spec=specs,
      action_spec=small.ACTION)
  try:
    if kind == 'core':
      part.observe_step(
          *(x[:, 0] for x in _core_inputs()), part.initial(small.BATCH),
          rng_lib.Rng(0))
    elif kind == 'encoder':
      part(small.observations(specs))
    else:
      part(small.features())
  except Exception as error:  # noqa: BLE001 - any that says so
    assert 'build' in str(error), error
    return
  raise AssertionError(f'a {kind} that was not built was used without an error')


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
    assert value.shape[0] == small.BATCH and value.shape[1] <= small.LENGTH
    assert np.isfinite(value).all(), key
  for key, value in metrics.items():
    assert value.shape.rank == 0, key


def loss_trains(kind, name, kwargs):
  """An agent trains on it: gradients reach it, and all of its own variables."""
  del kind
  built, loss, _ = _loss(name, kwargs)
  _fill_zeros(loss.trainable_variables)
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
  missing = [
      v.name for v, found in zip(
          own, _reached(gradients[:len(own)]), strict=True) if not found]
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
  _scramble(loss.variables)
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
  """A balancer gives a scalar whose gradient is positive for each loss."""
  del kind
  part, means = _balancer(name, kwargs)
  with tf.GradientTape() as tape:
    tape.watch(list(means.values()))
    total, metrics = part(means)
  assert total.shape.rank == 0 and np.isfinite(total)
  assert all(g > 0 for g in tape.gradient(total, list(means.values())))
  assert all(np.ndim(v) == 0 for v in metrics.values())


def balancer_trains_its_variables(kind, name, kwargs):
  """Gradients reach all of its own variables."""
  del kind
  part, means = _balancer(name, kwargs)
  variables = part.trainable_variables
  with tf.GradientTape() as tape:
    total, _ = part(means)
  missing = [
      v.name for v, found in zip(
          variables, _reached(tape.gradient(total, variables)), strict=True)
      if not found]
  assert not missing, f'no gradient reaches {missing}'


def balancer_calls_repeat(kind, name, kwargs):
  """Calls give the same again, under XLA too, and make no variable."""
  del kind
  part, means = _balancer(name, kwargs)
  _check_calls(lambda: part(means), part.variables)


def _fill_zeros(variables):
  """Gives variables that are all zero, which hide others, random values."""
  for variable in variables:
    if not np.any(variable.numpy()):
      variable.assign(tf.random.stateless_normal(variable.shape, (0, 1)))


def _scramble(variables):
  """Gives variables of any type other values."""
  rng = np.random.default_rng(9)
  for variable in variables:
    variable.assign(tf.cast(
        rng.integers(1, 100, variable.shape), variable.dtype))


def _reached(gradients):
  """Returns for each gradient whether there is one that is not zero."""
  return [
      g is not None and bool(np.any(tf.convert_to_tensor(g)))
      for g in gradients]


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
      np.testing.assert_allclose(a, b, **CLOSE, err_msg=what)


def normalizer_tracks(kind, name, kwargs):
  """Statistics change by `update` only; the scale is positive."""
  del kind
  part = small.make('normalizer', name, kwargs)
  part.build()
  values = tf.random.stateless_normal([40, 5], (1, 2)) * 10
  updated = part.update(values)
  for a, b in zip(updated, part.read(), strict=True):
    np.testing.assert_allclose(a, b)
    assert a.dtype == tf.float32 and a.shape.rank == 0
  assert updated[1] > 0
  compiled = tf.function(part.update, jit_compile=True)(values)
  assert np.isfinite(compiled).all()


def optimizer_descends(kind, name, kwargs):
  """An optimizer lowers a loss; zero gradients change nothing."""
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
  np.testing.assert_array_equal(still, [1.0, 2.0])


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
  np.testing.assert_allclose(eager, traced, **CLOSE)


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
  np.testing.assert_allclose(variable, copy, **CLOSE)
