"""The base files and protocols hold what the authors' code has.

The numbers are those of the authors' configurations: danijar/dreamerv3 e3f0224
(2025), PyPI dreamerv3 1.5.0 (2023), danijar/dreamerv2 0216d33 (2021; frames
there are divided by the action repeat, as its training script does).
"""

import gin
import pytest

from dv3 import config
from dv3.config import reader

FORMS = {
    '2025': ['dreamerv3.gin', 'size/12m.gin'],
    '2023': ['dreamerv3_v1.gin', 'size/v1_s.gin'],
    '2021': ['dreamerv2.gin'],
    '2021 DMC': ['dreamerv2.gin', 'variant/dreamerv2_dmc.gin']}

BASES = {  # binding: values of FORMS in order; None where there is none
    'dv3.train.batch_size': (16, 16, 50, 50),
    'dv3.train.batch_length': (64, 64, 50, 50),
    'dv3.train.replay_context': (1, 0, 0, 0),
    'dv3.train.replay_capacity': (5e6, 1e6, 2e6, 2e6),
    'dv3.train.online_queue': (True, False, False, False),
    'dv3.train.sampler': (
        'sampler.uniform', 'sampler.uniform', 'sampler.episode_ends',
        'sampler.uniform'),
    'sampler.episode_ends.extra': (None, None, 49, 49),
    'core.rssm.stoch': (32, None, None, None),
    'core.rssm.classes': (16, None, None, None),
    'core.rssm.unimix': (0.01, None, None, None),
    'core.rssm.blocks': (8, None, None, None),
    'core.rssm.prior_layers': (2, None, None, None),
    'core.rssm.posterior_layers': (1, None, None, None),
    'core.gru.deter': (None, 512, 600, 200),
    'core.gru.hidden': (None, 512, 600, 200),
    'core.gru.stoch': (None, 32, 32, 32),
    'core.gru.classes': (None, 32, 32, 32),
    'core.gru.unimix': (None, 0.01, 0, 0),
    'core.gru.initial': (None, 'learned', 'zeros', 'zeros'),
    'loss.kl.free_nats': (1, 1, 0, 1),
    'loss.kl.free_average': (None, None, True, True),
    'encoder.mlp.symlog': (True, True, False, False),
    'encoder.mlp.layers': (3, 2, 4, 4),
    'encoder.mlp.units': (256, 512, 400, 400),
    'encoder.cnn.kernel_size': (5, 4, None, None),
    'encoder.cnn.multipliers': ((2, 3, 4, 4), (1, 2, 4, 8), None, None),
    'encoder.cnn.depth': (16, 32, None, None),
    'encoder.valid_cnn.kernel_size': (None, None, 4, 4),
    'encoder.valid_cnn.depth': (None, None, 48, 48),
    'reward/head.twohot.layers': (1, None, None, None),
    'critic/head.twohot.layers': (3, None, None, None),
    'head.twohot.bins': (255, None, None, None),
    'head.twohot.output_scale': (0, None, None, None),
    'head.symlog_twohot.layers': (None, 2, None, None),
    'head.symlog_twohot.bins': (None, 255, None, None),
    'head.symlog_twohot.output_scale': (None, 0, None, None),
    'head.normal.layers': (None, None, 4, 4),
    'head.normal.units': (None, None, 400, 400),
    'head.binary.layers': (1, 2, 4, 4),
    'head.actor.layers': (3, 2, None, None),
    'head.actor.unimix': (0, 0.01, None, None),
    'head.actor.min_stddev': (0.1, 0.1, None, None),
    'head.actor.max_stddev': (1, 1, None, None),
    'head.actor.output_scale': (0.01, 1, None, None),
    'head.truncated_actor.min_stddev': (None, None, 0.1, 0.1),
    'dv3.Agent.imagination_horizon': (15, 15, 15, 15),
    'dv3.Agent.discount_horizon': (333, 333, 1000, 100),
    'dv3.Agent.discounted_continue': (True, False, True, True),
    'dv3.Agent.hard_continue': (False, True, False, False),
    'dv3.Agent.lambda_': (0.95, 0.95, 0.95, 0.95),
    'dv3.Agent.slow_rate': (0.02, 0.02, 1, 1),
    'dv3.Agent.slow_every': (1, 1, 100, 100),
    'dv3.Agent.slow_target': (False, False, True, True),
    'loss.actor_reinforce.entropy_scale': (3e-4, 3e-4, None, None),
    'loss.actor_backprop.entropy_scale': (None, 3e-4, None, None),
    'loss.actor_mixed.entropy_scale': (None, None, 1e-3, 1e-4),
    'loss.actor_mixed.target_step': (None, None, 0, 0),
    'loss.actor_mixed.slow_baseline': (None, None, False, False),
    'discrete/loss.actor_mixed.dynamics_share': (None, None, 0, 0),
    'continuous/loss.actor_mixed.dynamics_share': (None, None, 1, 1),
    'loss.critic_imagined.slow_scale': (1, 1, None, None),
    'loss.critic_replay.slow_scale': (1, None, None, None),
    'optimizer.laprop.learning_rate': (4e-5, None, None, None),
    'optimizer.laprop.agc': (0.3, None, None, None),
    'optimizer.laprop.warmup_updates': (1000, None, None, None),
    'model/optimizer.adam.learning_rate': (None, 1e-4, 2e-4, 3e-4),
    'actor/optimizer.adam.learning_rate': (None, 3e-5, 4e-5, 8e-5),
    'critic/optimizer.adam.learning_rate': (None, 3e-5, 1e-4, 8e-5),
    'model/optimizer.adam.eps': (None, 1e-8, None, None),
    'actor/optimizer.adam.eps': (None, 1e-5, None, None),
    'critic/optimizer.adam.eps': (None, 1e-5, None, None),
    'optimizer.adam.eps': (None, None, 1e-5, 1e-5),
    'model/optimizer.adam.clip': (None, 1000, None, None),
    'actor/optimizer.adam.clip': (None, 100, None, None),
    'critic/optimizer.adam.clip': (None, 100, None, None),
    'optimizer.adam.clip': (None, None, 100, 100)}

SCALES = {  # dynamics, representation, continue, critic_replay
    '2025': (1.0, 0.1, 1.0, 0.3), '2023': (0.5, 0.1, 1.0, 1.0),
    # 0.1 (1) times 0.8 and 0.2.
    '2021': (0.08, 0.02, 5.0, 1.0), '2021 DMC': (0.8, 0.2, 5.0, 1.0)}

TASKS = {  # (task, binding): values of the first three FORMS
    ('atari100k', 'dv3.train.replayed_steps_per_env_step'): (256, 1024, None),
    ('atari100k', 'env.atari.sticky'): (False, False, None),
    ('atari100k', 'env.atari.repeat'): (4, 4, None),
    ('atari100k', 'env.atari.noops'): (30, 30, None),
    ('atari100k', 'env.atari.full_actions'): (False, False, None),
    ('atari100k', 'env.atari.grey'): (False, False, None),
    ('atari100k', 'env.atari.size'): ((64, 64), (64, 64), None),
    ('atari100k', 'env.atari.resize'): ('bilinear', 'area', None),
    ('atari100k', 'env.atari.lives'): ('unused', 'unused', None),
    ('atari100k', 'collector.local.num_envs'): (1, 1, None),
    # An update every 16 env steps: 50 x 50 / 16.
    ('atari200m', 'dv3.train.replayed_steps_per_env_step'): (32, 64, 156.25),
    ('atari200m', 'dv3.train.prefill_env_steps'): (0, 0, 200_000 // 4),
    ('atari200m', 'dv3.train.transforms'): (
        (), (), ('transform.tanh_reward',)),
    ('atari200m', 'env.atari.sticky'): (True, True, True),
    ('atari200m', 'env.atari.repeat'): (4, 4, 4),
    ('atari200m', 'env.atari.noops'): (30, 0, 30),
    ('atari200m', 'env.atari.full_actions'): (True, True, True),
    ('atari200m', 'env.atari.grey'): (True, False, True),
    ('atari200m', 'env.atari.size'): ((96, 96), (64, 64), (64, 64)),
    ('atari200m', 'env.atari.resize'): ('bilinear', 'area', 'area'),
    ('atari200m', 'env.atari.lives'): ('unused', 'unused', 'unused'),
    ('atari200m', 'env.atari.max_frames'): (108_000, 108_000, 108_000),
    # An update every 5 env steps: 50 x 50 / 5.
    ('dmc_vision', 'dv3.train.replayed_steps_per_env_step'): (256, 512, 500),
    ('dmc_vision', 'dv3.train.prefill_env_steps'): (0, 0, 5_000 // 2),
    ('dmc_vision', 'env.dmc.action_repeat'): (1, 2, 2),
    ('dmc_vision', 'env.dmc.image'): ((64, 64), (64, 64), (64, 64)),
    ('dmc_proprio', 'dv3.train.replayed_steps_per_env_step'): (1024, 512, None),
    ('dmc_proprio', 'env.dmc.action_repeat'): (1, 2, None),
    ('crafter', 'dv3.train.replayed_steps_per_env_step'): (512, 512, None),
    ('bsuite', 'dv3.train.replayed_steps_per_env_step'): (1024, 1024, None)}


@pytest.fixture(autouse=True)
def clean():
  yield
  gin.clear_config()


def values(*names):
  """Returns {name as gin writes it: value, macros expanded}."""
  bindings = config.parse(names).bindings
  return {
      '/'.join(filter(None, (scope, f'{selector}.{argument}'))): plain(
          reader.expand(value.value, bindings.macros))
      for (scope, selector, argument), value in bindings.parameters.items()}


def plain(value):
  """References become the names that they refer to."""
  if isinstance(value, (list, tuple)):
    return tuple(plain(x) for x in value)
  return getattr(value, 'selector', value)


@pytest.mark.parametrize('form', FORMS)
def test_base(form):
  found = values(*FORMS[form], 'task/cartpole.gin')
  column = list(FORMS).index(form)
  assert {name: found.get(name) for name in BASES} == {
      name: row[column] for name, row in BASES.items()}
  scales = found['balancer.fixed.scales']
  assert SCALES[form] == tuple(scales.get(name, 1.0) for name in (
      'dynamics', 'representation', 'continue', 'critic_replay'))
  for group in ('model', 'actor', 'critic'):
    if form.startswith('2021'):  # A decay of 1e-6 at every update.
      decay = found[f'{group}/optimizer.adam.weight_decay']
      rate = found[f'{group}/optimizer.adam.learning_rate']
      assert decay * rate == pytest.approx(1e-6, rel=1e-3)


PUBLISHED = sorted({  # Not every task has been published of every form.
    (form, task) for (task, _), row in TASKS.items()
    for form, value in zip(FORMS, row, strict=False) if value is not None})


@pytest.mark.parametrize('form, task', PUBLISHED)
def test_task(form, task):
  found = values(*FORMS[form], f'task/{task}.gin')
  column = list(FORMS).index(form)
  expected = {
      name: row[column] for (t, name), row in TASKS.items()
      if t == task and row[column] is not None}
  assert {name: found[name] for name in expected} == expected
