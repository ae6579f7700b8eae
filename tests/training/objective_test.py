"""When the loss may be taken apart, and what is refused."""

import functools

import numpy as np
import pytest
import small_agent
import tensorflow as tf
import tf_keras as keras

from dv3 import agent as agent_lib
from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.distributions import rng as rng_lib
from dv3.training import distribution
from dv3.training import replicated
from dv3.training import step

REINFORCE = registry.get('loss', 'actor_reinforce')
LOSSES = ('kl', 'reconstruction', 'reward', 'continue', 'critic_imagined')


class Overriding(REINFORCE):
  """Sees other returns than its statistics would."""

  def __call__(self, context):
    return super().__call__(context)


class OverridingBoth(Overriding):
  def statistics(self, context):
    return super().statistics(context)


class OfTheModel(REINFORCE):
  PHASE = 'model'


class Counting(tf.Module, interfaces.Loss):
  """Keeps a variable up to date."""

  NAMES = ('counting',)

  def build(self, parts):
    self.count = tf.Variable(0.0, trainable=False)

  def __call__(self, context):
    return {'counting': tf.zeros_like(context.reward)}, {}


class SecondActor(tf.Module, interfaces.Loss):
  NAMES = ('other',)

  def __call__(self, context):
    return {'actor': tf.zeros_like(context.reward)}, {}


class TwoNames(REINFORCE):
  def statistics(self, context):
    return super().statistics(context)

  def __call__(self, context):
    values, metrics = super().__call__(context)
    return {**values, 'extra': values['actor']}, metrics


class Relative(tf.Module, interfaces.Balancer):
  """Makes all losses equally large, which is not linear."""

  def __call__(self, means):
    return tf.add_n([
        x / (1.0 + tf.abs(tf.stop_gradient(x))) for x in means.values()]), {}


def make(*losses, balancer='fixed'):
  if isinstance(balancer, str):
    balancer = functools.partial(registry.get('balancer', balancer))
  agent = small_agent.make(
      losses=(*(registry.get('loss', name) for name in LOSSES), *losses),
      balancer=balancer)
  agent.build()
  return agent


@pytest.mark.parametrize('loss, separable', [
    (REINFORCE, True), (Overriding, False), (OverridingBoth, True),
    (OfTheModel, False), (Counting, False),
    (registry.get('loss', 'redundancy'), False),
    (functools.partial(registry.get('loss', 'kl'), free_average=True), False),
    (registry.get('loss', 'actor_by_action'), True),
    (registry.get('loss', 'actor_backprop'), False)])
def test_which_losses_can_be_taken_apart(loss, separable):
  agent = small_agent.make(losses=(loss,))
  agent.build()
  assert agent.objective.separable == separable


@pytest.mark.parametrize('balancer, separable', [
    ('fixed', True), ('harmony', True), (Relative, False)])
def test_which_balancers_leave_it_so(balancer, separable):
  assert make(REINFORCE, balancer=balancer).objective.separable == separable


def batch():
  return {k: tf.convert_to_tensor(v) for k, v in small_agent.batch().items()}


def test_an_awaited_loss_shares_its_name_with_no_other():
  agent = make(REINFORCE, SecondActor)
  rng = rng_lib.Rng(0)
  with pytest.raises(errors.UserError, match="two losses return 'actor'"):
    agent.loss(batch(), rng)
  with pytest.raises(errors.UserError, match="two losses return 'actor'"):
    agent.objective.total(batch(), rng, awaited={'actor': tf.zeros([])})


def test_an_awaited_loss_returns_what_it_lists():
  agent = make(TwoNames)
  rng = rng_lib.Rng(0)
  _, _, context = agent.objective.total(
      batch(), rng, awaited={'actor': tf.zeros([])})
  statistics = agent.objective.statistics(context)
  with pytest.raises(errors.UserError, match='extra.*make them agree'):
    agent.objective.awaited_losses(context, statistics)


class NextReward(tf.Module, interfaces.Loss):
  """Predicts the reward of the next step, so that the last has no loss."""

  NAMES = ('next_reward',)

  def __call__(self, context):
    features = {k: v[:, :-1] for k, v in context.features.items()}
    dist = context.parts['reward'](features)
    return {'next_reward': -dist.log_prob(context.reward[:, 1:])}, {}


class Convolving(NextReward):
  def convolves(self, parts):
    return True


class TooLong(NextReward):
  def __call__(self, context):
    reward = context.reward
    return {'next_reward': tf.concat([reward, reward], 1)}, {}


def make_update(*losses, images=False, jit_compile=False):
  agent = small_agent.make(images=images, losses=tuple(
      registry.get('loss', x) if isinstance(x, str) else x for x in losses))
  agent.build()
  optimizer = small_agent.part('optimizer', 'laprop')
  return step.make_update(
      agent, distribution.make_strategy(), (('all', ('*',), optimizer),),
      seed=0, jit_compile=jit_compile)


@pytest.mark.parametrize('loss, jit_compile', [
    (NextReward, False), (NextReward, True), (NextReward, 'mixed'),
    (Convolving, 'mixed')])
def test_a_loss_of_fewer_steps_trains(loss, jit_compile):
  images = jit_compile == 'mixed'
  update = make_update(
      *LOSSES, 'actor_reinforce', loss, images=images, jit_compile=jit_compile)
  losses, metrics, _, per_step = update(small_agent.batch(images=images))
  assert metrics['finite'] == 1.0
  assert np.isfinite(losses['next_reward'])
  assert per_step.shape == (4, 5)


@pytest.mark.parametrize('loss, jit_compile', [
    (NextReward, False), (NextReward, True), (Convolving, 'mixed')])
def test_what_needs_the_next_step_counts_zero_where_there_is_one(
    loss, jit_compile):
  images = jit_compile == 'mixed'
  update = make_update(
      *LOSSES, 'actor_reinforce', 'critic_replay', loss, images=images,
      jit_compile=jit_compile)
  losses, metrics, _, per_step = update(
      small_agent.batch(length=1, images=images))
  assert metrics['finite'] == 1.0
  assert 'return_replay' not in metrics  # The mean of nothing.
  assert losses['next_reward'] == losses['critic_replay'] == 0.0
  assert losses['reward'] > 0.0
  assert per_step.shape == (4, 1)


def test_the_last_step_counts_zero_where_a_loss_leaves_it_out():
  agent = make_update(NextReward).agent
  _, outputs = agent.loss(batch(), rng_lib.Rng(0))
  assert np.all(outputs.per_step[:, :-1] > 0)
  np.testing.assert_array_equal(outputs.per_step[:, -1], 0.0)
  np.testing.assert_allclose(
      outputs.losses['next_reward'], np.mean(outputs.per_step[:, :-1]),
      rtol=1e-5)


def test_a_loss_of_fewer_steps_apart_from_what_replicas_exchange():
  update = make_update(*LOSSES, 'actor_reinforce', NextReward)
  apart = replicated.ReplicatedGradients(
      update.agent, update.trained, update._rng)
  inputs = batch(), tf.constant(0, tf.int64), tf.constant(0)
  whole, outputs, _ = update.loss_and_gradients(*inputs)
  total, others, _ = tf.function(apart, autograph=False)(*inputs)
  np.testing.assert_allclose(total, whole, rtol=1e-3)
  np.testing.assert_allclose(others.per_step, outputs.per_step, rtol=1e-3)


OTHER_DENSE = tf.keras.layers.Dense  # noqa: TID251 - the Keras not to use.


class LateEncoder(keras.layers.Layer, interfaces.Encoder):
  """Leaves its dense layer to be built where it is first called."""

  token_size = 6

  def __init__(self, *, obs_spec, dense):
    super().__init__()
    self.dense = dense(self.token_size)

  def build(self, input_shape=None):
    super().build(input_shape)

  def call(self, obs):
    return self.dense(obs['vector'])


def late_update(dense, jit_compile):
  """Returns an update of an agent with a `LateEncoder`."""
  agent = small_agent.make(
      encoder=functools.partial(LateEncoder, dense=dense),
      losses=(registry.get('loss', 'kl'), registry.get('loss', 'reward')))
  agent.build()
  return step.make_update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part('optimizer', 'laprop')),),
      seed=0, jit_compile=jit_compile)


@pytest.mark.parametrize('jit_compile', [False, True])
def test_variables_that_nothing_would_train_are_refused(jit_compile):
  update = late_update(OTHER_DENSE, jit_compile)
  with pytest.raises(errors.UserError, match=(
      r'2 variables would never be trained.*dense.*/bias.*in build\(\)')):
    update(small_agent.batch())


class Later(keras.layers.Layer):
  """Makes its variable in the second call, when an agent is built."""

  def __init__(self, size):
    super().__init__()
    self.size, self.calls, self.weight = size, 0, None

  def call(self, inputs):
    self.calls += 1
    if self.calls == 2:
      self.weight = self.add_weight('late', [inputs.shape[-1], self.size])
    return tf.zeros([*inputs.shape[:-1], self.size]) if (
        self.weight is None) else inputs @ self.weight


@pytest.mark.parametrize('jit_compile', [False, True])
def test_variables_that_come_after_build_are_refused(jit_compile):
  update = late_update(Later, jit_compile)
  with pytest.raises(errors.UserError, match=(
      r'1 variables would never be trained.*encoder/.*late')):
    update(small_agent.batch())


def test_layers_that_build_themselves_are_trained():
  update = late_update(keras.layers.Dense, False)
  kernel, _ = update.agent.encoder.dense.variables
  before = kernel.numpy()
  for _ in range(2):  # The first has the rate 0.
    update(small_agent.batch())
  assert not np.array_equal(kernel, before)


def test_an_agent_may_train_on_dreams_alone():
  update = make_update('critic_imagined')
  _, metrics, _, per_step = update(small_agent.batch())
  assert metrics['finite'] == 1.0
  np.testing.assert_array_equal(per_step, np.zeros((4, 5)))


def test_a_loss_of_more_steps_is_refused():
  agent = make_update(TooLong).agent
  with pytest.raises(ValueError, match="'next_reward'.*of fewer steps"):
    agent.loss(batch(), rng_lib.Rng(0))


def test_groups_of_one_name_are_refused():
  agent = small_agent.make()
  agent.build()
  laprop = small_agent.part('optimizer', 'laprop')
  rest = tuple(x for x in agent_lib.PARTS if x != 'actor')
  with pytest.raises(errors.UserError, match='have one name'):
    step.make_groups(agent, (
        ('opt', ('actor',), laprop), ('opt', rest, laprop)))


def test_an_agent_observes_arrays():
  agent = small_agent.make()
  agent.build()
  values = {
      k: v for k, v in small_agent.batch().items()
      if not k.startswith('latent/')}
  context = agent.observe(values, rng_lib.Rng(0))
  assert context.reward.shape == [4, 5]
  with pytest.raises(errors.UserError, match=r"lacks \['reward'\]"):
    agent.observe(
        {k: v for k, v in values.items() if k != 'reward'}, rng_lib.Rng(0))
