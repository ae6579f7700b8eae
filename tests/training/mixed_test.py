"""XLA for all but the convolutions computes what one graph computes."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dv3 import agent as agent_lib
from dv3 import registry
from dv3.testing import small
from dv3.training import distribution
from dv3.training import mixed as mixed_lib
from dv3.training import policy as policy_lib
from dv3.training import step

SIZE, LENGTH = 4, 5


def part(kind, name, **kwargs):
  return functools.partial(registry.get(kind, name), **kwargs)


def make(balancer='fixed', dtype='float32', pictures='cnn'):
  """Returns a small agent that sees numbers and images."""
  units = {'units': 8, 'layers': 1}
  encoder = part('encoder', 'cnn', depth=4, multipliers=(2, 2))
  decoder = part(
      'decoder', 'cnn', depth=4, multipliers=(2, 2), units=8, blocks=4)
  if pictures == 'v1':
    encoder = functools.partial(encoder, strided=True, norm='layer')
    decoder = part(
        'decoder', 'transposed_cnn', depth=4, multipliers=(2, 2))
  losses = [
      'kl', 'reconstruction', 'reward', 'continue', 'actor_reinforce',
      'critic_imagined', 'critic_replay']
  if pictures == 'encoded':  # And not decoded.
    losses[1] = 'redundancy'
  twohot = part('head', 'twohot', bins=21, output_scale=1.0, **units)
  agent = agent_lib.Agent(
      obs_spec={**small.VECTOR, **small.IMAGE}, action_spec=small.ACTION,
      encoder=part(
          'encoder', 'dict', image=encoder,
          vector=part('encoder', 'mlp', **units)),
      decoder=part('decoder', 'none') if pictures == 'encoded' else part(
          'decoder', 'dict', image=decoder,
          vector=part('decoder', 'mlp', **units)),
      losses=tuple(registry.get('loss', name) for name in losses),
      core=part(
          'core', 'rssm', deter=16, hidden=8, stoch=4, classes=4, blocks=4),
      reward=twohot, critic=twohot,
      continuation=part('head', 'binary', units=8),
      actor=part('head', 'actor', **units), imagination_horizon=3,
      balancer=part('balancer', balancer), compute_dtype=dtype)
  keras.utils.set_random_seed(0)
  agent.build()
  return agent


def batch(agent):
  rng = np.random.default_rng(0)
  lead = (SIZE, LENGTH)
  values = {}
  for key, spec in (*agent.obs_spec, *(
      (f'prev_{k}', v) for k, v in agent.codec.specs.items())):
    shape = (*lead, *spec.shape)
    if spec.classes is not None:
      values[key] = rng.integers(0, min(spec.classes), shape).astype(spec.dtype)
    elif spec.dtype == 'uint8':
      values[key] = rng.integers(0, 256, shape).astype(np.uint8)
    else:
      values[key] = rng.normal(size=shape).astype(spec.dtype)
  values['reward'] = rng.normal(size=lead).astype(np.float32)
  for key in ('is_first', 'is_last', 'is_terminal'):
    values[key] = rng.random(lead) < 0.2
  return values


def gradients(agent, compiler):
  strategy = distribution.make_strategy()
  update = step.Update(
      agent, strategy, (('all', ('*',), part('optimizer', 'laprop')),),
      seed=3, jit_compile=compiler)
  assert update.compiled == compiler
  function = tf.function(update.gradients, autograph=False)
  found = function(
      distribution.scatter(strategy, batch(agent)), tf.constant(7, tf.int64),
      tf.constant(0))
  return update, found


@pytest.mark.parametrize('balancer, pictures, at_once', [
    pytest.param('fixed', 'cnn', 256, marks=pytest.mark.slow),
    ('harmony', 'cnn', 2 * LENGTH),
    ('fixed', 'v1', LENGTH), ('fixed', 'encoded', LENGTH)])
def test_mixed_is_what_one_graph_computes(
    balancer, pictures, at_once, monkeypatch):
  monkeypatch.setattr(mixed_lib, 'STEPS_AT_ONCE', at_once)
  agent = make(balancer, pictures=pictures)
  before = [v.numpy() for v in untrained(agent)]
  update, (total, outputs, found) = gradients(agent, False)
  statistics = [v.numpy() for v in untrained(agent)]
  # Moving statistics of returns have moved by one update.
  assert any(np.any(x != 0) for x in statistics)
  for variable, value in zip(untrained(agent), before, strict=True):
    variable.assign(value)
  _, (mixed_total, mixed_outputs, mixed) = gradients(agent, 'mixed')
  np.testing.assert_allclose(mixed_total, total, rtol=1e-4)
  for value, variable in zip(statistics, untrained(agent), strict=True):
    np.testing.assert_allclose(
        variable, value, rtol=1e-3, atol=1e-5, err_msg=variable.name)
  assert set(mixed_outputs.losses) == set(outputs.losses)
  for name, value in outputs.losses.items():
    np.testing.assert_allclose(
        mixed_outputs.losses[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
  assert set(mixed_outputs.metrics) == set(outputs.metrics)
  np.testing.assert_allclose(
      mixed_outputs.per_step, outputs.per_step, rtol=1e-4)
  assert any(v.shape.rank == 4 for v in update.trained)
  for variable, a, b in zip(update.trained, found, mixed, strict=True):
    size = float(tf.norm(a))
    np.testing.assert_allclose(
        b, a, atol=2e-3 * size + 1e-6, err_msg=variable.name)
    if variable.shape.rank == 4:
      assert size > 0


def untrained(agent):
  """Returns the variables that the losses keep for themselves."""
  return [v for loss in agent.losses for v in getattr(loss, 'variables', ())]


@pytest.mark.parametrize('at_once, count', [
    (1, 4), (LENGTH, 4), (LENGTH + 1, 2), (2 * LENGTH + 1, 1), (999, 1)])
def test_sequences_are_convolved_some_at_once(at_once, count, monkeypatch):
  monkeypatch.setattr(mixed_lib, 'STEPS_AT_ONCE', at_once)
  agent = make()
  gradients_ = mixed_lib.MixedGradients(agent, [], None)
  assert gradients_._count(batch(agent)) == count
  for loss in agent.losses:
    if loss.convolves(agent.parts):
      loss.across_replicas = 'throughout'
  assert gradients_._count(batch(agent)) == 1


def test_an_unknown_compiler_is_refused():
  with pytest.raises(Exception, match="'mixed'"):
    gradients(make(), 'all')


def test_a_policy_acts_the_same_however_it_is_compiled():
  agent = make()
  values = batch(agent)
  obs = {key: values[key][:, 0] for key, _ in agent.obs_spec}
  first = np.asarray([True, False, False, True])
  results = []
  for compiler in (False, True, 'mixed'):
    policy = policy_lib.Policy(agent, seed=1, jit_compile=compiler)
    state = policy.initial(SIZE)
    for call in range(3):
      actions, entries, state = policy(obs, first, state, call)
    results.append((actions, entries, state))
    # A state of one's own, in place of the one returned last.
    own = tf.nest.map_structure(np.copy, state)
    again, _, _ = policy(obs, first, own, 3)
    same, _, _ = policy(obs, first, state, 3)
    for name, value in again.items():
      np.testing.assert_array_equal(value, same[name])
  for other in results[1:]:
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        results[0], other)
