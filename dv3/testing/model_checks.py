"""What components with tensors must do."""

import unittest
from typing import Any

import numpy as np
import tensorflow as tf

from dv3 import registry
from dv3.distributions import rng as rng_lib
from dv3.nets import part as part_lib
from dv3.testing import small
from dv3.testing import subjects

CLOSE: dict[str, Any] = {'rtol': 1e-4, 'atol': 1e-5}


def shapes_and_dtypes(kind, name, kwargs):
  """Outputs have the contract's shapes and dtypes, whatever axes lead."""
  lead = (small.BATCH, small.LENGTH)
  for subject in subjects.each(kind, name, kwargs):
    part, run = subject.part, subject.run
    count = len(part.variables)
    values = run()
    if kind == 'core':
      for value in values:
        assert value.shape[:2] == lead, value.shape
      features = part.features(subjects.observed(part)[1])
      assert {k: v.shape[-1] for k, v in features.items()} == dict(
          part.feature_spec)
    else:
      _check_leads(kind, part, run, values)
    assert all(value.dtype == tf.float32 for value in values)
    if kind == 'decoder':
      assert set(part(small.features())) == set(part.keys)
    if kind == 'head' and small.takes(kind, name, 'action_spec'):
      _check_actions(part)
    assert len(part.variables) == count, 'a call made variables'


def _check_leads(kind, part, run, values):
  """Asserts that a layer computes the same whatever its leading axes are."""
  event = (part.token_size,) if kind == 'encoder' else ()
  lead = (small.BATCH, small.LENGTH)
  for other in (small.BATCH * small.LENGTH,), (1, *lead):
    # [B] is what a policy gives.
    for value, again in zip(values, run(lead=other), strict=True):
      assert tuple(value.shape) == (*lead, *event), (
          f'{tuple(value.shape)} in place of {(*lead, *event)}')
      assert tuple(again.shape) == (*other, *event), (
          f'{tuple(again.shape)} in place of {(*other, *event)}')
      np.testing.assert_allclose(
          value, tf.reshape(again, value.shape), **CLOSE)


def _check_actions(part):
  """Asserts that an actor's samples are actions, one-hot where discrete."""
  sizes = [spec.encoded_size for spec in small.ACTION.values()]
  sample = rng_lib.Rng(7).sample(part(small.features()))
  assert sample.shape == (small.BATCH, small.LENGTH, sum(sizes)), (
      f'an action is {tuple(sample.shape)}; action_spec has {sum(sizes)} '
      'numbers')
  for (key, spec), entry in zip(
      small.ACTION.items(), tf.split(sample, sizes, -1), strict=True):
    if spec.classes is not None:
      entry = np.sort(entry, -1)
      assert (entry[..., -1] == 1).all() and (entry[..., :-1] == 0).all(), (
          f'{key} is discrete, but its samples are not one-hot')


def gradients_reach_every_variable(kind, name, kwargs):
  """No trained variable is left out."""
  for part, run, _ in subjects.each(kind, name, kwargs):
    variables = part.trainable_variables
    if kind == 'decoder' and not part.keys:
      assert not variables, 'the decoder predicts nothing and has variables'
      continue
    subjects.fill_zeros(variables)  # Output layers would hide the others.
    with tf.GradientTape() as tape:
      total = tf.add_n([tf.reduce_sum(
          x * tf.random.stateless_normal(tf.shape(x), (5, i)))
          for i, x in enumerate(run())])
    missing = subjects.unreached(variables, tape.gradient(total, variables))
    # An encoder may hand on what it gets, or be trained already.
    assert variables or kind == 'encoder', 'the part has no trained variables'
    assert not missing, f'no gradient reaches {missing}'


def bfloat16_keeps_variables_float32(kind, name, kwargs):
  """Under mixed_bfloat16 variables stay float32 and outputs are finite."""
  if not part_lib.takes_dtype(registry.get(kind, name)):
    raise unittest.SkipTest('it takes no dtype: it computes in float32 alone')
  for part, run, _ in subjects.each(kind, name, kwargs, 'mixed_bfloat16'):
    for variable in part.trainable_variables:
      assert variable.dtype == tf.float32, variable.name
    for value in run():
      assert np.isfinite(tf.cast(value, tf.float32)).all(), 'not finite'
      if kind == 'encoder':
        assert value.dtype == tf.bfloat16, 'tokens have the compute dtype'
      else:
        assert value.dtype == tf.float32, 'losses and features are float32'


def compiled_equals_eager(kind, name, kwargs):
  """XLA computes what eager execution computes; no variable is made late."""
  for part, run, _ in subjects.ends(kind, name, kwargs):
    count = len(part.variables)
    eager = run()
    compiled = tf.function(run, jit_compile=True, autograph=False)
    for a, b in zip(eager, compiled(), strict=True):
      np.testing.assert_allclose(a, b, **CLOSE)
    tf.function(run, autograph=False)()
    assert len(part.variables) == count, 'a call made variables'


def checkpoint_round_trip(kind, name, kwargs, folder):
  """Another instance computes the same after reading a checkpoint."""
  for (one, run, _), (other, again, _) in zip(
      subjects.ends(kind, name, kwargs), subjects.ends(kind, name, kwargs),
      strict=True):
    subjects.scramble(one.variables)
    path = tf.train.Checkpoint(part=one).write(str(folder / 'part'))
    tf.train.Checkpoint(part=other).read(path).assert_consumed()
    for a, b in zip(run(), again(), strict=True):
      np.testing.assert_allclose(a, b, **CLOSE)


def normalizer_tracks(kind, name, kwargs):
  """Statistics change by `update` only, in a graph too, and are saved."""
  del kind
  make = lambda: subjects.first('normalizer', name, kwargs).part
  values = [
      tf.random.stateless_normal([40, 5], (1, i)) * 10.0 ** i
      for i in range(1, 4)]
  eager, compiled = make(), make()
  update = tf.function(compiled.update, jit_compile=True)
  for numbers in values:
    expected = eager.update(numbers)
    for a, b in zip(expected, eager.read(), strict=True):
      np.testing.assert_allclose(a, b)
      assert a.dtype == tf.float32 and a.shape.rank == 0
    assert expected[1] > 0
    for a, b in zip(expected, update(numbers), strict=True):
      np.testing.assert_allclose(
          a, b, **CLOSE, err_msg='a compiled update gives something else')


def normalizer_checkpoint_round_trip(kind, name, kwargs, folder):
  """Another instance goes on from the statistics of a checkpoint."""
  one, run, _ = subjects.first(kind, name, kwargs)
  run(1)
  path = tf.train.Checkpoint(part=one).write(str(folder / 'part'))
  other = subjects.first(kind, name, kwargs).part
  tf.train.Checkpoint(part=other).read(path).assert_consumed()
  for a, b in zip(one.read(), other.read(), strict=True):
    np.testing.assert_allclose(a, b, err_msg='what a checkpoint gave back')


def used_unbuilt_says_so(kind, name, kwargs):
  """A part that was not built raises an error that names `build`.

  Of encoders, decoders and heads the library asks it of its own alone: Keras
  builds others when they are first called.
  """
  specs = subjects.first(kind, name, kwargs).specs
  part = small.make(
      kind, name, kwargs, feature_spec=small.FEATURES, obs_spec=specs,
      action_spec=small.ACTION)
  try:
    if kind == 'core':
      part.observe_step(
          *(x[:, 0] for x in subjects.core_inputs()),
          part.initial(small.BATCH), rng_lib.Rng(0))
    elif kind == 'encoder':
      part(small.observations(specs))
    else:
      part(small.features())
  except Exception as error:  # noqa: BLE001 - any that says so
    assert 'build' in str(error), error
    return
  raise AssertionError(f'a {kind} that was not built was used without an error')
