"""Settings of the right type that cannot work: one line with the remedy."""

import pytest

from dv3 import agent as agent_lib
from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.training import trainer

IMAGE = {'image': types.Spec((16, 16, 3), 'uint8')}
NUMBERS = {'numbers': types.Spec((3,), 'float32')}
FEATURES = {'deter': 16, 'stoch': 8}
CORE = {'token_size': 4, 'action_size': 2}


@pytest.mark.parametrize('kind, name, settings, words', [
    ('core', 'rssm', {**CORE, 'deter': 100}, 'blocks is 8.*deter, 100'),
    ('core', 'rssm', {**CORE, 'posterior_layers': 0}, 'at least 1'),
    ('core', 'rssm', {**CORE, 'norm': 'batch'}, "norm 'batch'.*rms"),
    ('core', 'gru', {**CORE, 'initial': 'ones'}, "'ones'.*learned"),
    ('encoder', 'mlp', {'obs_spec': NUMBERS, 'act': 'sulu'}, "'sulu'.*silu"),
    ('encoder', 'mlp', {'obs_spec': NUMBERS, 'fan': 'out'}, "'out'.*average"),
    ('decoder', 'cnn', {
        'obs_spec': IMAGE, 'feature_spec': FEATURES, 'multipliers': (1, 2),
        'kernel_size': 4}, 'kernel_size 4.*odd'),
    # 16 channels of 16 pixels have 8 blocks, but 12 channels have not.
    ('decoder', 'cnn', {
        'obs_spec': IMAGE, 'feature_spec': FEATURES, 'multipliers': (1, 3),
        'depth': 4}, 'blocks is 8.*12 channels'),
    ('loss', 'actor_mixed', {'dynamics_share': 1.5}, 'dynamics_share'),
    ('core', 'rssm', {**CORE, 'deter': -8}, 'core.rssm.deter is -8.*least 1'),
    ('core', 'rssm', {**CORE, 'stoch': 0}, 'core.rssm.stoch is 0'),
    ('core', 'rssm', {**CORE, 'classes': 0}, 'core.rssm.classes is 0'),
    ('core', 'rssm', {**CORE, 'prior_layers': -1}, 'prior_layers is -1'),
    ('core', 'rssm', {**CORE, 'unimix': 1.5}, r'core.rssm.unimix.*\[0, 1\]'),
    ('core', 'gru', {**CORE, 'hidden': 0}, 'core.gru.hidden is 0'),
    ('core', 'rllib_gru', {**CORE, 'stoch': 0}, 'core.rllib_gru.stoch is 0'),
    ('encoder', 'mlp', {'obs_spec': NUMBERS, 'layers': -1},
     'encoder.mlp.layers is -1; it is at least 0'),
    ('encoder', 'mlp', {'obs_spec': NUMBERS, 'units': 0}, 'mlp.units is 0'),
    ('encoder', 'cnn', {'obs_spec': IMAGE, 'depth': 0}, 'encoder.cnn.depth'),
    ('encoder', 'cnn', {
        'obs_spec': {'image': types.Spec((3, 64, 64), 'uint8')}},
     'have their channels first.*transpose them'),
    ('encoder', 'cnn', {
        'obs_spec': {'image': types.Spec((16, 16, 3), 'uint8')}},
     'image 16x16.*does not suit 4 stages'),
    ('encoder', 'cnn', {'obs_spec': IMAGE, 'multipliers': (2, 0)},
     'one of encoder.cnn.multipliers is 0'),
    ('encoder', 'cnn', {'obs_spec': IMAGE, 'multipliers': ()},
     'number of encoder.cnn.multipliers is 0'),
    ('encoder', 'valid_cnn', {'obs_spec': IMAGE, 'kernel_size': 0},
     'encoder.valid_cnn.kernel_size'),
    ('encoder', 'valid_cnn', {'obs_spec': IMAGE, 'kernel_size': 1},
     'encoder.valid_cnn.kernel_size'),
    ('encoder', 'valid_cnn', {'obs_spec': IMAGE, 'kernel_size': 99},
     'encoder.valid_cnn.kernel_size'),
    *(('encoder', name, {'obs_spec': NUMBERS},
       r"'numbers' of shape \(3,\) is no image.*encoder.dict")
      for name in ('cnn', 'valid_cnn')),
    *(('decoder', name, {'obs_spec': NUMBERS, 'feature_spec': FEATURES},
       r"'numbers' of shape \(3,\) is no image.*decoder.dict")
      for name in ('cnn', 'transposed_cnn', 'valid_cnn')),
    ('encoder', 'cnn', {'obs_spec': {}}, 'no image.*encoder.dict'),
    *(('decoder', name, {
        'obs_spec': NUMBERS, 'feature_spec': FEATURES, 'units': 0},
       f'decoder.{name}.units is 0') for name in ('mlp', 'normal_mlp')),
    *(('decoder', name, {
        'obs_spec': IMAGE, 'feature_spec': FEATURES, 'depth': 0},
       f'decoder.{name}.depth is 0')
      for name in ('cnn', 'transposed_cnn', 'valid_cnn')),
    *(('head', name, {'feature_spec': FEATURES, 'units': 0},
       f'head.{name}.units is 0')
      for name in ('twohot', 'symlog_twohot', 'binary', 'normal')),
    *(('head', name, {
        'feature_spec': FEATURES, 'action_spec': NUMBERS, 'layers': -2},
       f'head.{name}.layers is -2') for name in ('actor', 'truncated_actor')),
    ('head', 'twohot', {'feature_spec': FEATURES, 'bins': 0},
     'head.twohot.bins is 0; it is at least 2'),
    ('head', 'symlog_twohot', {'feature_spec': FEATURES, 'bins': 1},
     'head.symlog_twohot.bins is 1'),
    ('head', 'actor', {
        'feature_spec': FEATURES, 'action_spec': NUMBERS, 'max_stddev': 0.05},
     'head.actor.max_stddev is 0.05; it is at least 0.1')])
def test_parts_refuse_what_does_not_fit(kind, name, settings, words):
  with pytest.raises(errors.UserError, match=words):
    part = registry.get(kind, name)(**settings)
    part.build()  # Where initialisers are made.


@pytest.mark.parametrize('kind, name, settings, words', [
    ('optimizer', 'adam', {'clip': -1.0}, 'optimizer.adam.clip is -1.0'),
    ('optimizer', 'adam', {'beta1': 1.0}, r'beta1 is 1.0; it is in \[0, 1\)'),
    ('optimizer', 'laprop', {'agc': -1.0}, 'optimizer.laprop.agc is -1.0'),
    ('optimizer', 'laprop', {'beta2': 1.0}, 'optimizer.laprop.beta2 is 1.0'),
    ('sampler', 'prioritized', {'capacity': 9, 'epsilon': 0.0},
     'sampler.prioritized.epsilon is 0.0; it is above 0'),
    ('sampler', 'curious', {'capacity': 9, 'c': -1.0}, 'sampler.curious.c is'),
    ('sampler', 'curious', {'capacity': 9, 'initial': 0.0},
     'sampler.curious.initial is 0.0'),
    ('sampler', 'episode_ends', {'capacity': 9, 'extra': -1.0},
     'sampler.episode_ends.extra is -1.0'),
    ('normalizer', 'percentile', {'high': 150.0}, r'percentile.high is 150'),
    ('normalizer', 'percentile', {'rate': 0.0}, 'percentile.rate is 0.0'),
    ('normalizer', 'meanstd', {'rate': 5.0}, 'meanstd.rate is 5.0'),
    ('logger', 'video', {'logdir': 'unused', 'frames_per_second': 0.0},
     'logger.video.frames_per_second is 0.0'),
    ('balancer', 'harmony', {'scales': {'reward': 0.0}},
     'the scale of reward in balancer.harmony is 0.0')])
def test_components_refuse_numbers_without_sense(kind, name, settings, words):
  with pytest.raises(errors.UserError, match=words):
    registry.get(kind, name)(**settings)


@pytest.mark.parametrize('settings, words', [
    ({'discount_horizon': 1.0, 'discounted_continue': False},
     'Agent.discount_horizon is 1.0; it is above 1'),
    ({'imagination_horizon': 0}, 'Agent.imagination_horizon is 0'),
    ({'discount_horizon': 0.0}, 'Agent.discount_horizon is 0.0'),
    ({'slow_every': 0}, 'Agent.slow_every is 0'),
    ({'lambda_': 7.0}, r'Agent.lambda_ is 7.0; it is in \[0, 1\]'),
    ({'slow_rate': -0.1}, 'Agent.slow_rate is -0.1')])
def test_agent_refuses_numbers_without_sense(settings, words):
  with pytest.raises(errors.UserError, match=words):
    agent_lib.Agent(
        obs_spec=NUMBERS, action_spec={'action': types.Spec((), 'int32', (2,))},
        **settings)


@pytest.mark.parametrize('settings, words', [
    ({'batch_size': 0}, 'train.batch_size is 0; it is at least 1'),
    ({'batch_length': 0}, 'train.batch_length'),
    ({'env_steps': -5}, 'train.env_steps is -5'),
    ({'replay_capacity': 0}, 'train.replay_capacity'),
    ({'replay_chunk_steps': 0}, 'train.replay_chunk_steps'),
    ({'replay_context': -1}, 'train.replay_context is -1; it is at least 0'),
    ({'steps_per_loop': 0}, 'train.steps_per_loop'),
    ({'keep_checkpoints': 0}, 'train.keep_checkpoints'),
    ({'max_bad_updates': 0}, 'train.max_bad_updates'),
    ({'prefill_env_steps': -1}, 'train.prefill_env_steps'),
    ({'replayed_steps_per_env_step': -1.0}, 'replayed_steps_per_env_step'),
    ({'seed': -1}, 'train.seed is -1')])
def test_trainer_refuses_numbers_without_sense(settings, words):
  numbers = {'env_steps': 10, 'replayed_steps_per_env_step': 1.0, **settings}
  with pytest.raises(errors.UserError, match=words):
    trainer.train(
        logdir=None, dry_run=True, agent=None, env=None, collector=None,
        optimizers=(), **numbers)


def test_collector_refuses_no_environment():
  recipe = types.Recipe('env', 'gymnasium', {'id': 'CartPole-v1'})
  with pytest.raises(errors.UserError, match='num_envs.*is 0.*at least 1'):
    registry.get('collector', 'local')(env=recipe, num_envs=0)
