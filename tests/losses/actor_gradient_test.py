"""Imagination with gradients: through the dynamics, to the actor alone."""

import types as python_types

import gin
import numpy as np
import pytest
import tensorflow as tf

from dv3 import agent as agent_lib
from dv3 import config
from dv3 import distributions
from dv3 import errors
from dv3 import losses
from dv3 import registry
from dv3 import types
from dv3.cores import base
from dv3.losses import actor_backprop
from dv3.testing import small

ACTIONS = {
    'numbers': {'action': types.Spec((2,), 'float32')},
    'classes': {'action': types.Spec((), 'int32', (3,))}}
PARTS = ('encoder', 'core', 'reward', 'continue', 'critic', 'actor')


def part(kind, name, **kwargs):
  return lambda **given: small.make(kind, name, kwargs, **given)


def make(actor_loss, actions, **kwargs):
  names = ('kl', 'reconstruction', 'reward', 'continue', 'critic_imagined')
  agent = agent_lib.Agent(
      obs_spec=small.VECTOR, action_spec=ACTIONS[actions],
      encoder=part('encoder', 'dict'), core=part('core', 'gru'),
      decoder=part('decoder', 'dict'), reward=part('head', 'normal'),
      continuation=part('head', 'binary'),
      actor=part('head', 'actor', output_scale=1.0),
      critic=part('head', 'normal'),
      losses=(actor_loss, *(registry.get('loss', name) for name in names)),
      imagination_horizon=4, **kwargs)
  agent.build()
  return agent


def batch(agent):
  data = small.observations(small.VECTOR)
  data |= {
      f'prev_{k}': v for k, v in small.observations(agent.codec.specs).items()}
  lead = (small.BATCH, small.LENGTH)
  # NumPy: TensorFlow's own numbers differ when compiled.
  data['reward'] = tf.constant(
      np.random.default_rng(0).normal(size=lead), tf.float32)
  for key in ('is_first', 'is_last', 'is_terminal'):
    data[key] = tf.zeros(lead, tf.bool)
  return data


def gradients(agent, compiled=False):
  """Returns ({loss: mean}, {part: gradients of the actor's loss})."""
  @tf.function(jit_compile=compiled, autograph=False)
  def run():
    with tf.GradientTape() as tape:
      _, outputs = agent.loss(batch(agent), distributions.Rng(3))
    return outputs.losses, tape.gradient(
        outputs.losses['actor'], {n: agent.variables_of(n) for n in PARTS},
        unconnected_gradients=tf.UnconnectedGradients.ZERO)
  return run()


def size(tensors):
  return max(float(np.max(np.abs(x))) for x in tensors)


@pytest.mark.parametrize('actions', ACTIONS)
@pytest.mark.parametrize('name', ['actor_backprop', 'actor_mixed'])
def test_only_the_actor_is_trained_through_the_dynamics(name, actions):
  kwargs = {'dynamics_share': 0.7} if name == 'actor_mixed' else {}
  factory = lambda: registry.get('loss', name)(**kwargs)
  agent = make(factory, actions)
  assert agent.imagination_gradient
  values, found = gradients(agent)
  assert size(found['actor']) > 1e-5
  for other in PARTS[:-1]:
    assert size(found[other]) == 0.0, other
  # The gradient is that of the plain loss with respect to the actor.
  rng = distributions.Rng(3)
  actor = agent.variables_of('actor')
  with tf.GradientTape() as tape:
    context = agent.observe(batch(agent), rng)
    context = context._replace(imagined=agent.imagine(context, rng))
    plain = tf.reduce_mean(agent.losses[0](context)[0]['actor'])
  np.testing.assert_allclose(values['actor'], plain, rtol=1e-3, atol=1e-5)
  for a, b in zip(found['actor'], tape.gradient(plain, actor), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5)


def test_xla_computes_the_same():
  factory = actor_backprop.BackpropLoss
  tf.random.set_seed(0)
  agent = make(factory, 'numbers')
  (values, found), (others, again) = (
      gradients(agent), gradients(agent, compiled=True))
  for name in values:
    np.testing.assert_allclose(
        values[name], others[name], rtol=1e-3, atol=1e-4, err_msg=name)
  for a, b in zip(found['actor'], again['actor'], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('name, loops', [
    ('actor_reinforce', 3), ('actor_backprop', 4)])
def test_without_gradients_imagination_has_no_backward_loop(name, loops):
  agent = make(registry.get('loss', name), 'numbers')
  data = batch(agent)
  @tf.function(autograph=False)
  def run():
    with tf.GradientTape() as tape:
      total, _ = agent.loss(data, distributions.Rng(3))
    return tape.gradient(total, agent.trainable_variables)
  graph = run.get_concrete_function().graph.as_graph_def()
  nodes = [*graph.node, *(
      node for function in graph.library.function
      for node in function.node_def)]
  # Observing, imagining, and their backward loops as far as there are any.
  assert sum('While' in node.op for node in nodes) == loops


def test_a_loss_that_needs_gradients_says_so():
  with pytest.raises(errors.UserError, match='imagination_gradient'):
    make(actor_backprop.BackpropLoss, 'numbers', imagination_gradient=False)


def test_by_action_chooses_by_the_action_space():
  factory = registry.get('loss', 'actor_by_action')
  assert make(factory, 'numbers').imagination_gradient
  assert not make(factory, 'classes').imagination_gradient


@pytest.mark.parametrize('files, asks', [
    (['dreamerv3.gin', 'size/1m.gin'], False),
    (['dreamerv3_v1.gin', 'size/v1_nano.gin'], True),
    (['dreamerv2.gin', 'DETER = 16'], True)])
@pytest.mark.parametrize('choice', [
    None, 'ACTOR_LOSS = @loss.actor_backprop',
    'ACTOR_LOSS = @loss.actor_reinforce'])
def test_one_gin_line_chooses(files, asks, choice):
  # What a base asks for where actions are numbers, unless a line says else.
  params = [x for x in (*files, choice) if x and ' = ' in x]
  config.parse(
      [*(x for x in files if ' = ' not in x), 'task/pendulum.gin'], params)
  try:
    with tf.Graph().as_default():
      agent = gin.get_configurable('dv3.Agent')(
          obs_spec=small.VECTOR, action_spec=ACTIONS['numbers'])
      agent.build()
  finally:
    gin.clear_config()
  assert agent.imagination_gradient == (
      asks if choice is None else 'backprop' in choice)


class Walk(base.RecurrentCore):
  """x' = x + action; the feature is x."""

  def starts(self, latents):
    return latents

  def features(self, latents):
    return {'x': latents}

  def imagine_step(self, action, state, rng):
    del rng
    return state + action, state + action


class Given:
  """A distribution with a mean, as a head's result."""

  def __init__(self, value):
    self.value = value

  def mean(self):
    return self.value

  def draw(self, rng):
    del rng
    return self.value

  def entropy(self):
    return tf.zeros_like(self.value[..., 0])


def test_the_gradient_through_known_dynamics():
  horizon, lambda_, discount, starts = 5, 0.9, 0.8, 3
  step = tf.Variable([0.3])
  agent = python_types.SimpleNamespace(
      imagination_gradient=True, imagination_horizon=horizon, core=Walk(),
      actor=lambda f: Given(0.0 * f['x'] + step),
      reward=lambda f: Given(f['x'][..., 0]),
      critic=lambda f: Given(tf.zeros_like(f['x'][..., 0])),
      slow_critic=lambda f: Given(tf.zeros_like(f['x'][..., 0])),
      discounted_continue=False, discount=discount, slow_target=False,
      lambda_=lambda_,
      _continuation=lambda c, f: tf.ones_like(f['x'][..., 0]))
  start = tf.random.stateless_normal([starts, 1], (0, 1))
  context = losses.Context(
      *[None] * 2, reward=tf.zeros([starts, 1]), is_first=None, is_last=None,
      is_terminal=None, tokens=None, latents=start,
      features={'x': start[:, None]}, parts={'actor': agent.actor},
      discount=discount, discounted_continue=False, lambda_=lambda_)
  loss = actor_backprop.BackpropLoss(
      normalizer=registry.get('normalizer', 'none'))
  loss.build({})
  with tf.GradientTape() as tape:
    imagined = agent_lib.Agent.imagine(agent, context, distributions.Rng(0))
    values, _ = loss(context._replace(imagined=imagined))
    mean = tf.reduce_mean(values['actor'])
  # x[t + k] holds t + k steps, and counts (lambda discount)^(k - 1); the last
  # one of a trajectory is not followed by a value, since the critic says 0.
  expected = np.mean([
      discount ** t * sum(
          (lambda_ * discount) ** (k - 1) * (t + k)
          for k in range(1, horizon - t + 1)) for t in range(horizon)])
  np.testing.assert_allclose(
      tape.gradient(mean, step), [-expected], rtol=1e-5)
