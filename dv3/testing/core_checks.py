"""What cores must do besides what all parts must."""

import numpy as np
import tensorflow as tf

from dv3.cores import base
from dv3.distributions import rng as rng_lib
from dv3.testing import model_checks
from dv3.testing import small
from dv3.testing import subjects


class _Still(rng_lib.Rng):
  """A key whose uses and steps all draw the same numbers."""

  def fold(self, use):
    del use
    return self

  def at(self, step):
    del step
    return self


class _Timeless(rng_lib.Rng):
  """A key whose steps draw the same numbers, but not its uses."""

  def fold(self, use):
    key = super().fold(use)
    return _Timeless(key._seed, key._offset)

  def at(self, step):
    del step
    return self


def _close(a, b, what=''):
  """Asserts that two nests are alike."""
  tf.nest.map_structure(
      lambda x, y: np.testing.assert_allclose(
          x, y, **model_checks.CLOSE, err_msg=what), a, b)


def steps_equal_sequences(kind, name, kwargs):
  """`observe` is `observe_step` at each t, `imagine` is `imagine_step`."""
  part = subjects.first(kind, name, kwargs).part
  tokens, action, is_first = subjects.core_inputs()
  rng = _Still(3)  # How a core names its draws is its own affair.
  _, latents, last = subjects.observed(part, rng=rng)
  state = part.initial(small.BATCH)
  for t in range(small.LENGTH):
    latent, state = part.observe_step(
        tokens[:, t], action[:, t], is_first[:, t], state, rng)
    _close(latent, _step(latents, t), f'observe_step at {t}')
  _close(state, last, 'the state after observe_step')
  dream, actions, end = part.imagine(_policy, last, 3, rng)
  assert actions.shape == [small.BATCH, 3, small.SIZES['action_size']]
  state = last
  for t in range(3):
    latent, state = part.imagine_step(actions[:, t], state, rng)
    _close(latent, _step(dream, t), f'imagine_step at {t}')
  _close(state, end, 'the state after imagine_step')


def _policy(features, rng):
  del features
  return rng.normal([small.BATCH, small.SIZES['action_size']])


def _step(nest, t):
  """Returns one time step of a nest of [B, T, ...]."""
  return tf.nest.map_structure(lambda x: x[:, t], nest)


def steps_draw_anew(kind, name, kwargs):
  """A core that draws numbers draws others at each step."""
  part = subjects.first(kind, name, kwargs).part
  last = subjects.observed(part)[2]
  still = lambda features, rng: tf.zeros(
      [small.BATCH, small.SIZES['action_size']])
  runs = {
      'observe': lambda rng: subjects.observed(part, rng=rng)[0],
      'imagine': lambda rng: list(part.features(
          part.imagine(still, last, small.LENGTH, rng)[0]).values())}
  for method, run in runs.items():
    values = run(rng_lib.Rng(3))
    assert _same(values, run(rng_lib.Rng(3))), (
        f'{method} gives other results for the same rng; draw by rng alone')
    if not _same(values, run(rng_lib.Rng(4))):
      assert not _same(values, run(_Timeless(3))), (
          f'{method} draws the same numbers at every step; draw those of step '
          't by rng.at(t)')


def _same(a, b):
  return all(
      np.allclose(x, y, **model_checks.CLOSE)
      for x, y in zip(a, b, strict=True))


def resets_forget(kind, name, kwargs):
  """After a reset nothing before it has an influence, and before it it has."""
  part = subjects.first(kind, name, kwargs).part
  subjects.fill_zeros(part.trainable_variables)  # They would hide the inputs.
  tokens, action, is_first = subjects.core_inputs()
  rng = rng_lib.Rng(3)
  run = lambda t, a: part.features(part.observe(
      t, a, is_first, part.initial(small.BATCH), rng)[0])
  before = tf.range(small.LENGTH)[None, :, None] < 2
  # The action into the first step of an episode belongs to the one before.
  early = tf.range(small.LENGTH)[None, :, None] < 3
  expected = run(tokens, action)
  depends = False
  # A few draws of a small core may be the same for other inputs; not all.
  for seed in range(1, 6):
    other = subjects.core_inputs(seed)
    actual = run(
        tf.where(before, other[0], tokens), tf.where(early, other[1], action))
    for key, value in expected.items():
      np.testing.assert_allclose(
          value[1, 2:], actual[key][1, 2:], **model_checks.CLOSE,
          err_msg=f'{key} after a reset depends on what was before it')
      depends |= not np.allclose(value[1, :2], actual[key][1, :2])
  assert depends, 'no feature depends on tokens and actions'
  broken = run(
      tf.where(before, np.nan, tokens), tf.where(early, np.nan, action))
  for key, value in broken.items():
    assert np.isfinite(value[1, 2:]).all(), (
        f'{key} keeps a NaN from before the reset; choose by tf.where, since '
        'a product with 0 keeps it')


def replay_round_trip(kind, name, kwargs):
  """A stored latent gives back the state, in the declared form."""
  part = subjects.first(kind, name, kwargs).part
  _, latents, state = subjects.observed(part)
  entry = part.replay_entry(latents)
  assert set(entry) == set(part.replay_spec)
  for key, spec in part.replay_spec.items():
    assert entry[key].shape == [small.BATCH, small.LENGTH, *spec.shape], key
    assert entry[key].dtype == spec.dtype, key
  last = _step(entry, -1)
  restored = part.state_from_replay(last)
  tf.nest.assert_same_structure(restored, state)
  # A core with `starts` may keep more than replay does. What comes from there
  # is that of the state, and all that is there is used.
  other = _step(entry, -2)
  changed = tf.nest.flatten(part.state_from_replay(other))
  for a, b, found in zip(
      *map(tf.nest.flatten, (restored, state)), changed, strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype, (
        f'state_from_replay gives {a.shape} {a.dtype} in place of {b.shape} '
        f'{b.dtype}')
    if _has_starts(part, latents) and _same([a], [found]):
      continue
    _close(a, b, 'state_from_replay of the last step')
  for key, value in other.items():
    if not _same([value], [last[key]]):
      mixed = part.state_from_replay({**last, key: value})
      assert not _same(*map(tf.nest.flatten, (mixed, restored))), (
          f'state_from_replay does not use {key}')
  tokens, action, is_first = (x[:, 0] for x in subjects.core_inputs())
  latent, _ = part.observe_step(
      tokens, action, is_first, restored, rng_lib.Rng(3))
  for key, value in part.features(latent).items():
    assert np.isfinite(value).all(), f'{key} after state_from_replay'


def _has_starts(part, latents) -> bool:
  return getattr(part, 'starts', lambda _: None)(latents) is not None


def starts_are_the_latents(kind, name, kwargs):
  """Row b * T + t of `starts` is step t of sequence b."""
  part = subjects.first(kind, name, kwargs).part
  latents = subjects.observed(part)[1]
  _close(
      part.features(base.starts(part, latents)),
      base.flat(part.features(latents)),
      'features of starts(latents), in the order b * T + t')
