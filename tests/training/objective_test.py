"""When the loss may be taken apart, and what is refused."""

import functools

import pytest
import small_agent
import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.distributions import rng as rng_lib

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
