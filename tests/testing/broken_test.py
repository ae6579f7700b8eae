"""The conformance suite catches components that break their contract."""

import os
import subprocess
import sys

import pytest

KEEPING = 'core:test.fine', 'loss:test.next', 'optimizer:test.keras'

BROKEN = '''
import tensorflow as tf
import tf_keras as keras
from dv3 import interfaces
from dv3 import registry
from dv3.balancers import fixed
from dv3.cores import rssm
from dv3.heads import twohot
from dv3.losses import reward


@registry.register('core', 'test.forgets_resets')
class ForgetsResets(rssm.RSSM):
  def project(self, tokens, prev_action, is_first):
    return super().project(tokens, prev_action, tf.zeros_like(is_first))


@registry.register('core', 'test.multiplies')
class Multiplies(rssm.RSSM):
  def filter_step(self, weights, inputs, state, rng):
    token, action, keep = inputs
    state = state._replace(deter=state.deter * keep, stoch=(
        state.stoch * keep[..., None]))
    return super().filter_step(
        weights, (token, action, tf.ones_like(keep)), state, rng)


@registry.register('core', 'test.two_ways')
class TwoWays(rssm.RSSM):
  def observe_step(self, tokens, prev_action, is_first, state, rng):
    return super().observe_step(
        tokens * 1.5, prev_action, is_first, state, rng)


@registry.register('head', 'test.idle_weight')
class IdleWeight(twohot.TwoHotHead):
  def build(self, input_shape=None):
    super().build(input_shape)
    self.idle = self.add_weight('idle', [2])


@registry.register('head', 'test.late_weight')
class LateWeight(twohot.TwoHotHead):
  def call(self, features):
    self.late = self.late if hasattr(self, 'late') else tf.Variable(1.0)
    return super().call({k: self.late * v for k, v in features.items()})


@registry.register('normalizer', 'test.own_statistics')
class OwnStatistics(tf.Module, interfaces.Normalizer):
  def build(self):
    self.mean = tf.Variable(0.0, trainable=False)

  def update(self, values):
    self.mean.assign(tf.reduce_mean(values))
    return self.read()

  def read(self):
    return tf.convert_to_tensor(self.mean), tf.constant(1.0)


@registry.register('loss', 'test.stops')
class Stops(reward.RewardLoss):
  def __call__(self, context):
    losses, metrics = super().__call__(context)
    return tf.nest.map_structure(tf.stop_gradient, losses), metrics


@registry.register('loss', 'test.idle_variable')
class IdleVariable(reward.RewardLoss):
  def build(self, parts):
    self.idle = tf.Variable([1.0, 2.0])


@registry.register('loss', 'test.late_variable')
class LateVariable(reward.RewardLoss):
  def __call__(self, context):
    scale = tf.Variable(1.0)
    losses, metrics = super().__call__(context)
    return {k: scale * v for k, v in losses.items()}, metrics


@registry.register('loss', 'test.noise')
class Noise(reward.RewardLoss):
  def __call__(self, context):
    losses, metrics = super().__call__(context)
    noise = tf.random.normal([])
    return {k: noise + v for k, v in losses.items()}, metrics


@registry.register('loss', 'test.too_long')
class TooLong(reward.RewardLoss):
  def __call__(self, context):
    losses, metrics = super().__call__(context)
    return {k: tf.concat([v, v], 1) for k, v in losses.items()}, metrics


class Hidden:
  pass


@registry.register('loss', 'test.not_saved')
class NotSaved(reward.RewardLoss):
  def build(self, parts):
    self._hidden = Hidden()
    self._hidden.count = tf.Variable(0.0, trainable=False)

  @property
  def variables(self):
    return (self._hidden.count,)


@registry.register('balancer', 'test.late_variable')
class LateBalancer(fixed.FixedBalancer):
  def __call__(self, means):
    total, metrics = super().__call__(means)
    return total * tf.Variable(1.0), metrics


@registry.register('balancer', 'test.idle_variable')
class IdleBalancer(fixed.FixedBalancer):
  def build(self, names):
    self.idle = tf.Variable(1.0)


class Counting(keras.optimizers.SGD):
  count = 0

  def apply_gradients(self, pairs, **kwargs):
    self.count += 1
    return super().apply_gradients(
        [(g / self.count, v) for g, v in pairs], **kwargs)


@registry.register('optimizer', 'test.counting')
def counting(learning_rate=0.1):
  return Counting(learning_rate)


@registry.register('optimizer', 'test.keras')
def plain(learning_rate=0.1):
  return keras.optimizers.Adam(learning_rate)


@registry.register('loss', 'test.next')
class Next(reward.RewardLoss):
  def __call__(self, context):
    features = {k: v[:, :-1] for k, v in context.features.items()}
    dist = context.parts['reward'](features)
    return {'reward': -dist.log_prob(context.reward[:, 1:])}, {}


@registry.register('core', 'test.fine')
class Fine(rssm.RSSM):
  pass
'''


# What each component must be told, and by which check.
CAUGHT = [
    ('core:test.forgets_resets', 'resets_forget'),
    ('core:test.multiplies', 'resets_forget'),
    ('core:test.two_ways', 'steps_equal_sequences'),
    ('head:test.idle_weight', 'gradients_reach_every_variable'),
    ('head:test.late_weight', 'compiled_equals_eager'),
    ('normalizer:test.own_statistics', 'two_replicas_stay_equal'),
    ('loss:test.stops', 'loss_trains'),
    ('loss:test.idle_variable', 'loss_trains'),
    ('loss:test.late_variable', 'loss_calls_repeat'),
    ('loss:test.noise', 'loss_calls_repeat'),
    ('loss:test.too_long', 'loss_is_unreduced'),
    ('loss:test.not_saved', 'loss_checkpoint_round_trip'),
    ('balancer:test.late_variable', 'balancer_calls_repeat'),
    ('balancer:test.idle_variable', 'balancer_trains_its_variables'),
    ('optimizer:test.counting', 'optimizer_steps_repeat'),
    ('optimizer:test.counting', 'optimizer_checkpoint_round_trip')]


@pytest.fixture(name='run', scope='module')
def make_run(tmp_path_factory):
  """Every check of what keeps the contract, of the rest the one above."""
  folder = tmp_path_factory.mktemp('conformance')
  (folder / 'broken.py').write_text(BROKEN)
  components = (*dict.fromkeys(x for x, _ in CAUGHT), *KEEPING)
  checks = ' or '.join((*(f'{x}-{check}' for x, check in CAUGHT), *KEEPING))
  result = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
       f'--dv3-plugin={folder / "broken.py"}', '-W', 'ignore', '-k', checks,
       *(f'--dv3-component={x}' for x in components)],
      cwd=folder, env={**os.environ, 'COLUMNS': '300'}, capture_output=True,
      text=True, check=False, timeout=600)
  return result.stdout


@pytest.mark.parametrize('component, check', CAUGHT)
def test_broken_components_are_caught(run, component, check):
  assert f'{component}-{check}] - ' in run, run[-3000:]


@pytest.mark.parametrize('component', KEEPING)
def test_a_component_that_keeps_the_contract_passes(run, component):
  assert component not in run, run[-3000:]
  assert 'passed' in run


@pytest.mark.parametrize('flags, words', [
    (['--dv3-component=core.rssm'], 'not KIND:NAME'),
    (['--dv3-component=core:rsm'], 'did you mean rssm?'),
    (['--dv3-component=core:rssm', '--dv3-kwargs={unitz: 3}'],
     '--dv3-kwargs={unitz: 3} is no JSON'),
    (['--dv3-component=core:rssm', '--dv3-kwargs=3'], 'names no arguments'),
    (['--dv3-component=core:rssm', '--dv3-plugin=gone.py'], 'no such file')])
def test_flags_that_are_wrong_are_one_line(flags, words):
  done = subprocess.run(
      [sys.executable, '-m', 'pytest', *flags],
      capture_output=True, text=True, env={
          **os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'})
  assert done.returncode == 4, done.stdout
  lines = [x for x in done.stderr.splitlines() if x.startswith('ERROR:')]
  assert len(lines) == 1 and words in lines[0], done.stderr
  assert 'Traceback' not in done.stderr
