"""The conformance suite catches components that break their contract."""

import os
import subprocess
import sys

import pytest

BROKEN = '''
import tensorflow as tf
from dv3 import interfaces
from dv3 import registry
from dv3.cores import rssm
from dv3.heads import twohot


@registry.register('core', 'test.forgets_resets')
class ForgetsResets(rssm.RSSM):
  def project(self, tokens, prev_action, is_first):
    return super().project(tokens, prev_action, tf.zeros_like(is_first))


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


@registry.register('core', 'test.fine')
class Fine(rssm.RSSM):
  pass
'''


@pytest.fixture(name='run', scope='module')
def make_run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('conformance')
  (folder / 'broken.py').write_text(BROKEN)
  components = (
      'core:test.forgets_resets', 'core:test.two_ways',
      'head:test.idle_weight', 'head:test.late_weight',
      'normalizer:test.own_statistics', 'core:test.fine')
  result = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
       f'--dv3-plugin={folder / "broken.py"}', '-W', 'ignore',
       *(f'--dv3-component={x}' for x in components)],
      cwd=folder, env={**os.environ, 'COLUMNS': '300'}, capture_output=True,
      text=True, check=False, timeout=600)
  return result.stdout


@pytest.mark.parametrize('component, check', [
    ('core:test.forgets_resets', 'resets_forget'),
    ('core:test.two_ways', 'steps_equal_sequences'),
    ('head:test.idle_weight', 'gradients_reach_every_variable'),
    ('head:test.late_weight', 'compiled_equals_eager'),
    ('normalizer:test.own_statistics', 'two_replicas_stay_equal')])
def test_broken_components_are_caught(run, component, check):
  assert f'{component}-{check}] - ' in run, run[-3000:]


def test_a_component_that_keeps_the_contract_passes(run):
  assert 'core:test.fine' not in run, run[-3000:]
  assert 'passed' in run


def test_unknown_component_is_one_clear_error():
  result = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '--dv3-component=core:rsm'],
      env={**os.environ, 'COLUMNS': '300'}, capture_output=True, text=True,
      check=False, timeout=120)
  assert result.returncode != 0
  assert 'did you mean rssm?' in result.stdout + result.stderr
