"""Golden numbers: reward, critic, continue and actor heads."""

import golden_data
import golden_weights
import numpy as np
import pytest
import tensorflow as tf

from dv3 import types
from dv3.heads import actor
from dv3.heads import binary
from dv3.heads import twohot

DATA = golden_data.load('heads')
FEATURES = {'x': DATA['x'].shape[-1]}


def sizes(case):
  """Returns the hidden layers and units of a case."""
  layers = sum(
      k.startswith(f'{case}/w/mlp/linear') and k.endswith('kernel')
      for k in DATA)
  return {
      'layers': layers,
      'units': DATA[f'{case}/w/mlp/linear0/kernel'].shape[-1]}


def check_objective(case, weights, objective):
  x = tf.constant(DATA['x'])
  names = sorted(weights)
  with tf.GradientTape() as tape:
    tape.watch(x)
    value = objective(x)
    total = tf.reduce_sum(value)
  grad_x, *grads = tape.gradient(total, [x, *(weights[n] for n in names)])
  np.testing.assert_allclose(
      value, DATA[f'{case}/objective'], rtol=1e-4, atol=1e-5)
  golden_weights.gradients(grad_x, DATA[f'{case}/grad_objective/x'])
  for name, grad in zip(names, grads, strict=True):
    golden_weights.gradients(
        grad, DATA[f'{case}/grad_objective/w/{name}'], name)


@pytest.mark.parametrize('case', ['reward', 'value'])
def test_heads_twohot(case):
  bins = DATA[f'{case}/logits'].shape[-1]
  head = twohot.TwoHotHead(feature_spec=FEATURES, bins=bins, **sizes(case))
  head.build()
  weights = golden_weights.head(head, 'logits')
  golden_weights.assign(weights, DATA, f'{case}/w/')
  dist = head({'x': DATA['x']})
  golden_weights.outputs(dist.logits, DATA[f'{case}/logits'])
  golden_weights.outputs(dist.mean(), DATA[f'{case}/pred'])
  loss = lambda x: -head({'x': x}).log_prob(DATA[f'{case}/target'])
  np.testing.assert_allclose(
      loss(DATA['x']), DATA[f'{case}/loss'], rtol=1e-4, atol=1e-5)
  check_objective(case, weights, loss)


def test_heads_twohot_predicts_exactly_zero_at_init():
  bins = DATA['reward/logits'].shape[-1]
  head = twohot.TwoHotHead(feature_spec=FEATURES, bins=bins, layers=1, units=8)
  head.build()
  dist = head({'x': DATA['x']})
  np.testing.assert_array_equal(dist.mean(), DATA['reward_at_init/pred'])
  np.testing.assert_allclose(
      -dist.log_prob(DATA['reward/target']), DATA['reward_at_init/loss'],
      rtol=1e-5)


def test_heads_continue():
  head = binary.BinaryHead(feature_spec=FEATURES, **sizes('continue'))
  head.build()
  weights = golden_weights.head(head, 'logit')
  golden_weights.assign(weights, DATA, 'continue/w/')
  dist = head({'x': DATA['x']})
  golden_weights.outputs(dist.logit, DATA['continue/logit'])
  golden_weights.outputs(dist.mean(), DATA['continue/prob_one'])
  check_objective(
      'continue', weights,
      lambda x: -head({'x': x}).log_prob(DATA['continue/target']))


def make_actor(case, spec, **kwargs):
  head = actor.ActorHead(
      feature_spec=FEATURES, action_spec={'action': spec}, **sizes(case),
      **kwargs)
  head.build()
  weights = golden_weights.actor(head)
  golden_weights.assign(weights, DATA, f'{case}/w/')
  return head, weights


@pytest.mark.parametrize('case', ['policy_discrete', 'policy_onehot_unimix'])
def test_heads_policy_discrete(case):
  kernel, = (v for k, v in DATA.items() if (
      k.startswith(f'{case}/w/head') and k.endswith('logits/kernel')))
  classes = kernel.shape[-1]
  head, weights = make_actor(
      case, types.Spec((), 'int32', (classes,)),
      unimix=0.01 if case.endswith('unimix') else 0.0)
  if f'{case}/event_onehot' in DATA:
    event = tf.constant(DATA[f'{case}/event_onehot'])
  else:
    event = tf.one_hot(DATA[f'{case}/event_index'], classes)
  dist = head({'x': DATA['x']})
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  close(dist.log_prob(event), DATA[f'{case}/logp'])
  close(dist.entropy(), DATA[f'{case}/entropy'])
  if f'{case}/mode' in DATA:
    np.testing.assert_array_equal(
        np.argmax(dist.mode(), -1), DATA[f'{case}/mode'])
  def objective(x):
    dist = head({'x': x})
    return dist.log_prob(event) + 0.3 * dist.entropy()
  check_objective(case, weights, objective)


def test_heads_policy_continuous():
  case = 'policy_continuous'
  size = DATA[f'{case}/action'].shape[-1]
  head, weights = make_actor(case, types.Spec((size,), 'float32'))
  action = tf.constant(DATA[f'{case}/action'])
  dist = head({'x': DATA['x']})
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  close(dist.mean(), DATA[f'{case}/mean'])
  close(dist.pieces[0].scale, DATA[f'{case}/stddev'])
  close(dist.log_prob(action), DATA[f'{case}/logp'])
  close(dist.entropy(), DATA[f'{case}/entropy'])
  def objective(x):
    dist = head({'x': x})
    return dist.log_prob(action) + 0.3 * dist.entropy()
  check_objective(case, weights, objective)
