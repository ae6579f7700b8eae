"""What components with tensors must do."""

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
      'encoder', (_BOTH, small.VECTOR, small.NUMBERS, small.IMAGE),
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
      'decoder', (small.VECTOR, small.NUMBERS, small.IMAGE, _BOTH),
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
  if kind == 'decoder' and not part.keys:
    assert not variables, 'the decoder predicts nothing and has variables'
    return
  fill_zeros(variables)  # Output layers would hide the others.
  with tf.GradientTape() as tape:
    total = tf.add_n([tf.reduce_sum(
        x * tf.random.stateless_normal(tf.shape(x), (5, i)))
        for i, x in enumerate(run())])
  missing = [
      v.name for v, found in zip(
          variables, reached(tape.gradient(total, variables)), strict=True)
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
  broken = run(
      tf.where(before, np.nan, tokens), tf.where(early, np.nan, action))
  for key, value in broken.items():
    assert np.isfinite(value[1, 2:]).all(), (
        f'{key} keeps a NaN from before the reset; choose by tf.where, since '
        'a product with 0 keeps it')


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


def fill_zeros(variables):
  """Gives variables that are all zero, which hide others, random values."""
  for variable in variables:
    if not np.any(variable.numpy()):
      variable.assign(tf.random.stateless_normal(variable.shape, (0, 1)))


def reached(gradients):
  """Returns for each gradient whether there is one that is not zero."""
  return [
      g is not None and bool(np.any(tf.convert_to_tensor(g)))
      for g in gradients]


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
