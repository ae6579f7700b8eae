"""Parts used without the trainer: what must hold, and what is refused."""

import functools
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import interfaces
from dv3 import losses
from dv3 import registry
from dv3 import types
from dv3.balancers import fixed
from dv3.training import policy

sys.path.append(str(pathlib.Path(__file__).parent / 'training'))
import small_agent  # noqa: E402

SIZES = {'deter': 16, 'hidden': 8, 'stoch': 4, 'classes': 4}
B, T, E, A = 2, 3, 5, 2


@functools.cache
def core(name):
  made = registry.get('core', name)(token_size=E, action_size=A, **SIZES)
  made.build()
  return made


def inputs():
  rng = np.random.default_rng(0)
  first = np.zeros((B, T), bool)
  first[:, 1] = True
  draw = lambda *shape: tf.constant(rng.normal(size=shape), tf.float32)
  return [draw(B, T, E), draw(B, T, A), tf.constant(first)]


@pytest.mark.parametrize('name', ['rssm', 'gru', 'rllib_gru'])
def test_a_first_step_forgets_what_is_not_finite(name):
  tokens, action, first = inputs()
  state = core(name).initial(B)
  bad = tf.nest.map_structure(lambda x: x * np.nan, state)
  spoilt = tf.where(first[..., None], np.nan, action)
  rng = distributions.Rng(0)
  clean, _ = core(name).observe(tokens, action, first, state, rng)
  found, _ = core(name).observe(tokens, spoilt, first, bad, rng)
  assert np.isnan(found.deter[:, 0]).all()  # It was spoilt.
  for x, y in zip(found, clean, strict=True):
    assert np.isfinite(x[:, 1:]).all() and np.isfinite(y).all()
  one = [tokens[:, 1], spoilt[:, 1], first[:, 1], bad]
  for x, y in zip(
      core(name).observe_step(*one, rng)[0],
      core(name).observe_step(*one[:1], action[:, 1], one[2], state, rng)[0],
      strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('name', ['rssm', 'gru'])
@pytest.mark.parametrize('change, words', [
    (lambda t, a, f, s: (t, a[:1], f, s), 'prev_action'),
    (lambda t, a, f, s: (t, a[:, :1], f, s), 'prev_action'),
    (lambda t, a, f, s: (t, a, f[0], s), 'is_first'),
    (lambda t, a, f, s: (t, a, f, core('rssm').initial(1)), 'state'),
    (lambda t, a, f, s: (t, a, f, None), 'NoneType'),
    (lambda t, a, f, s: (t[..., :4], a, f, s), 'token_size'),
])
def test_inputs_that_do_not_fit_are_named(name, change, words):
  with pytest.raises(errors.UserError, match=words):
    core(name).observe(
        *change(*inputs(), core(name).initial(B)), distributions.Rng(0))


def test_steps_of_unknown_number_are_refused():
  run = tf.function(lambda tokens: core('rssm').observe(
      tokens, *inputs()[1:], core('rssm').initial(B), distributions.Rng(0)),
      autograph=False)
  with pytest.raises(errors.UserError, match='number of steps'):
    run.get_concrete_function(tf.TensorSpec([B, None, E]))


def test_a_policy_may_dream_with_other_dtypes_but_not_sizes():
  state, rng = core('rssm').initial(B), distributions.Rng(0)
  dream = lambda action: core('rssm').imagine(
      lambda features, rng: action, state, 2, rng)[1]
  hot = np.eye(A)[[0, 1]]
  for dtype in (np.float64, np.int32, np.float32):
    np.testing.assert_array_equal(dream(hot.astype(dtype))[:, 0], hot)
  with pytest.raises(errors.UserError, match=r'\[B, 2\]'):
    dream(np.array([0, 1]))


def test_a_second_build_changes_nothing():
  agent = small_agent.make(images=True)
  agent.build()
  before = [(v.ref(), v.numpy()) for v in agent.variables]
  agent.build()
  for part in agent.parts.values():
    part.build()
  after = [(v.ref(), v.numpy()) for v in agent.variables]
  assert [ref for ref, _ in after] == [ref for ref, _ in before]
  for (_, x), (_, y) in zip(before, after, strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_loss_takes_arrays_as_replay_gives_them():
  agent = small_agent.make()
  agent.build()
  batch = small_agent.batch()
  arrays = {k: np.asarray(v) for k, v in batch.items()}
  tensors = {k: tf.constant(v) for k, v in arrays.items()}
  rng = distributions.Rng(0)
  total, _ = agent.loss(arrays, rng)
  assert np.isfinite(total)
  np.testing.assert_array_equal(total, agent.loss(tensors, rng)[0])
  del arrays['prev_action/move'], arrays['reward']
  with pytest.raises(errors.UserError, match=r"prev_action/move', 'reward"):
    agent.loss(arrays, rng)
  with pytest.raises(errors.UserError, match=r"'vector' has the shape"):
    agent.loss({**tensors, 'vector': tensors['vector'][..., :2]}, rng)


def test_lambda_returns_of_arrays():
  ones = np.ones((1, 3), np.float32)
  # 1 + (1 + 1) from the last value backwards.
  np.testing.assert_allclose(
      losses.lambda_return(ones, ones, ones, ones), [[3.0, 2.0]])


class Named(tf.Module, interfaces.Loss):
  """A loss whose attributes tests change."""
  NAMES = ('named',)

  def __call__(self, context):
    return {'named': tf.zeros_like(context.reward)}, {}


@pytest.mark.parametrize('attribute, value, words', [
    ('PHASE', 'world', "'model', 'behavior'"),
    ('across_replicas', 'sometimes', "'throughout'"),
    ('NAMES', 'named', r"\('named',\)")])
def test_a_loss_that_would_be_left_out_is_refused(attribute, value, words):
  loss = type('Mistyped', (Named,), {attribute: value})
  with pytest.raises(errors.UserError, match=f'Mistyped.{attribute}.*{words}'):
    small_agent.make(losses=[loss])


def test_no_losses_are_refused():
  with pytest.raises(errors.UserError, match='nothing would be trained'):
    small_agent.make(losses=())


@pytest.mark.parametrize('tokens, words', [
    (lambda obs: {'a': tf.zeros([1])}, 'of type dict'),
    (lambda obs: tf.zeros([2, 4]), r'\[B, T, token_size\]'),
    (lambda obs: tf.zeros([2, 3, 5]), 'token_size is 4')])
def test_tokens_of_another_form_are_refused(tokens, words):
  class Encoder(tf.Module):
    """Returns what the test wants."""
    token_size = 4

    def build(self):
      """Makes no variable."""

    def __call__(self, obs):
      return tokens(obs)

  agent = small_agent.make(encoder=lambda obs_spec: Encoder())
  batch = {'vector': tf.zeros([2, 3, 3]), 'token': tf.zeros([2, 3], tf.int32)}
  with pytest.raises(errors.UserError, match=words):
    agent.encode(batch)


class Returning(tf.Module):
  """A part that returns what the test wants."""

  keys = ('token', 'vector')

  def __init__(self, function):
    super().__init__()
    self._function = function

  def build(self):
    """Makes no variable."""

  def __call__(self, features):
    return self._function(features)


@pytest.mark.parametrize('part, result, words', [
    ('decoder', tf.zeros, r'returned a tensor \(1, 1\), but its keys are'),
    ('decoder', lambda shape: {'token': tf.zeros(shape)},
     r"returned \['token'\], but its keys are \['token', 'vector'\]"),
    ('decoder', lambda shape: dict.fromkeys(
        ('token', 'vector'), tf.zeros(shape)),
     r"for 'token' returned a tensor \(1, 1\) without log_prob"),
    ('reward', tf.zeros,
     r'the reward head, returned a tensor \(1, 1\) without log_prob, mean'),
    ('continuation', lambda shape: (1, 2), 'the continue head, .* a tuple'),
    ('actor', tf.zeros, 'the actor head, .* without log_prob, sample'),
    ('critic', lambda shape: None, 'the critic head, returned a NoneType')])
def test_parts_that_return_something_else_are_refused(part, result, words):
  agent = small_agent.make(**{
      part: lambda **specs: Returning(lambda features: result([1, 1]))})
  with pytest.raises(errors.UserError, match=f'Returning.*{words}'):
    agent.build()


def test_a_balancer_of_vectors_is_refused():
  class Vector(fixed.FixedBalancer):
    """Does not add."""

    def __call__(self, means):
      return tf.stack(list(means.values())), {}

  agent = small_agent.make(balancer=Vector)
  agent.build()
  with pytest.raises(errors.UserError, match='Vector returned a total of shap'):
    agent.loss(small_agent.batch(), distributions.Rng(0))


@pytest.mark.parametrize('name', ['cnn', 'valid_cnn'])
def test_images_of_another_layout_are_refused(name):
  encoder = registry.get('encoder', name)(
      obs_spec={'image': types.Spec((64, 64, 3), 'uint8')}, depth=4)
  encoder.build()
  shape = encoder({'image': tf.zeros([2, 64, 64, 3], tf.uint8)}).shape
  assert shape == [2, encoder.token_size]
  for wrong in ([2, 3, 64, 64], [3, 64, 64]):
    with pytest.raises(errors.UserError, match="'image' has the shape"):
      encoder({'image': tf.zeros(wrong, tf.uint8)})
  with pytest.raises(errors.UserError, match="'image' is missing"):
    encoder({'picture': tf.zeros([2, 64, 64, 3], tf.uint8)})


def test_a_class_that_there_is_not_has_no_probability():
  dist = distributions.Indices(tf.zeros([3, 4]), (), (4,))
  found = dist.log_prob(tf.constant([1, 4, -1]))
  np.testing.assert_allclose(found[0], np.log(0.25), rtol=1e-6)
  assert np.isnan(found[1:]).all()


@pytest.mark.parametrize('name', ['twohot', 'symlog_twohot', 'binary'])
def test_heads_take_features_without_a_batch(name):
  head = registry.get('head', name)(
      feature_spec={'a': 3}, layers=1, units=8)
  head.build()
  feature = tf.constant([0.3, -1.0, 2.0])
  one, batch = head({'a': feature}), head({'a': feature[None]})
  for read in ('mean', 'mode'):
    np.testing.assert_allclose(
        getattr(one, read)(), getattr(batch, read)()[0], rtol=1e-6)
  if name == 'binary':
    rng = distributions.Rng(0)
    np.testing.assert_array_equal(rng.sample(one), rng.sample(batch)[0])


@pytest.mark.parametrize('shape', [(4, 2), (2,), (), (3, 1, 2), (4, 1)])
def test_two_hot_targets_may_have_more_axes(shape):
  logits = tf.random.stateless_normal([2, 21], (0, 1))
  dist = distributions.TwoHot(logits, np.linspace(-10, 10, 21))
  value = tf.random.stateless_uniform(shape, (0, 2), -9.0, 9.0)
  with tf.GradientTape() as tape:
    tape.watch(logits)
    dist = distributions.TwoHot(logits, np.linspace(-10, 10, 21))
    found = dist.log_prob(value)
  whole = np.broadcast_to(value, np.broadcast_shapes(shape, (2,)))
  logs = tf.nn.log_softmax(logits).numpy()
  low = np.floor(whole).astype(int)
  pick = lambda bins: np.stack([
      logs[i, bins[..., i] + 10] for i in range(2)], -1)
  share = whole - low
  np.testing.assert_allclose(
      found, (1 - share) * pick(low) + share * pick(low + 1), rtol=1e-4,
      atol=1e-5)
  assert tape.gradient(found, logits).shape == logits.shape


def test_a_decoder_takes_features_without_a_batch():
  decoder = registry.get('decoder', 'cnn')(
      obs_spec={'image': types.Spec((16, 16, 3), 'uint8')},
      feature_spec={'deter': 16, 'stoch': 16}, units=8, blocks=4, depth=4,
      multipliers=(2, 2))
  decoder.build()
  features = {
      name: tf.random.stateless_normal([2, 16], (0, i))
      for i, name in enumerate(('deter', 'stoch'))}
  one = decoder({name: x[0] for name, x in features.items()})['image'].mean()
  np.testing.assert_allclose(
      one, decoder(features)['image'].mean()[0], rtol=1e-4, atol=1e-4)


def test_keys_fold_every_integer():
  draw = lambda use: distributions.Rng(0).fold(use).uniform([2]).numpy()
  np.testing.assert_array_equal(draw(-1), draw(2 ** 64 - 1))
  np.testing.assert_array_equal(draw(2 ** 64), draw(0))
  assert not np.array_equal(draw(-1), draw(1))


def test_a_policy_takes_other_dtypes_in_turn():
  agent = small_agent.make()
  agent.build()
  batch = small_agent.batch()
  obs = {key: batch[key][:2, 0] for key, _ in agent.obs_spec}
  acting = policy.Policy(agent, seed=0)
  first, state = np.ones(2, bool), acting.initial(2)
  found = [
      acting({**obs, 'vector': obs['vector'].astype(dtype)}, first, state, 0)[0]
      for dtype in (np.float32, np.float64, np.float32)]
  for actions in found[1:]:
    for key, value in actions.items():
      np.testing.assert_allclose(value, found[0][key], rtol=1e-5)
