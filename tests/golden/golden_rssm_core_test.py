"""Golden numbers: the RSSM's step, observation, imagination and gradients."""

import golden_data
import golden_weights
import modes
import numpy as np
import pytest
import recorded
import tensorflow as tf

from dv3 import types
from dv3.cores import categorical
from dv3.cores import rssm
from dv3.nets import inputs

DATA = golden_data.load('rssm_core')


def make(prefix, action_size, **kwargs):
  deter, hidden, stoch, classes, blocks = (
      int(x) for x in DATA['config/deter_hidden_stoch_classes_blocks'])
  count = lambda name: sum(
      k.startswith(f'{prefix}w/dyn/{name}') and k.endswith('kernel')
      and 'logit' not in k for k in DATA)
  core = rssm.RSSM(
      token_size=DATA['observe/tokens'].shape[-1], action_size=action_size,
      deter=deter, hidden=hidden, stoch=stoch, classes=classes, blocks=blocks,
      unimix=float(DATA['config/unimix']), prior_layers=count('prior'),
      posterior_layers=count('obs'), **kwargs)
  core.build()
  weights = golden_weights.core(core)
  if f'{prefix}w/dyn/priorlogit/kernel' not in DATA:
    weights = {k: v for k, v in weights.items() if not k.startswith('prior')}
  golden_weights.assign(weights, DATA, f'{prefix}w/dyn/')
  return core, weights


def carry():
  return categorical.State(
      tf.constant(DATA['observe/carry_deter']),
      tf.constant(DATA['observe/carry_stoch']))


def observe(core, prev_action, sample, tokens=None, state=None):
  rng = recorded.Recorded({'': sample})
  tokens = tf.constant(DATA['observe/tokens']) if tokens is None else tokens
  return core.observe(
      tokens, prev_action, tf.constant(DATA['observe/reset']),
      state or carry(), rng)


def test_rssm_core_step():
  core, _ = make('', DATA['core/action_in'].shape[-1])
  sample = np.zeros_like(DATA['core/stoch_in'])[:, None]
  latents, state = core.imagine_step(
      tf.constant(DATA['core/action_in']),
      categorical.State(*(tf.constant(DATA[f'core/{k}_in']) for k in (
          'deter', 'stoch'))), recorded.Recorded({'': sample}).at(0))
  golden_weights.outputs(state.deter, DATA['core/deter_out'])
  golden_weights.outputs(latents.logits, DATA['core/prior_logits'])


@pytest.mark.parametrize('mode', modes.MODES)
def test_rssm_core_observe(mode, monkeypatch):
  core, _ = make('', DATA['observe/prev_action'].shape[-1])

  def run():
    latents, state = observe(
        core, tf.constant(DATA['observe/prev_action']),
        DATA['observe/stoch_sample'])
    return latents, state, core.prior(latents.deter), core.kl(latents)

  latents, state, prior, kl = modes.compiled(run, mode, monkeypatch)()
  golden_weights.outputs(latents.deter, DATA['observe/deter'])
  golden_weights.outputs(latents.logits, DATA['observe/post_logits'])
  golden_weights.outputs(prior, DATA['observe/prior_logits'])
  golden_weights.outputs(latents.stoch, DATA['observe/stoch_sample'])
  golden_weights.outputs(state.deter, DATA['observe/final_deter'])
  golden_weights.outputs(state.stoch, DATA['observe/final_stoch'])
  free = float(DATA['config/free_nats'])
  for value, name in zip(kl, ('dyn', 'rep'), strict=True):
    np.testing.assert_allclose(
        np.maximum(free, value), DATA[f'observe/{name}_loss'],
        rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', modes.MODES)
def test_rssm_core_gradients(mode, monkeypatch):
  core, weights = make('', DATA['observe/prev_action'].shape[-1])
  names = sorted(weights)
  state = carry()
  tokens = tf.constant(DATA['observe/tokens'])
  action = tf.constant(DATA['observe/prev_action'])
  free = float(DATA['config/free_nats'])

  def run():
    with tf.GradientTape() as tape:
      tape.watch([*state, tokens, action])
      latents, _ = observe(
          core, action, DATA['observe/stoch_sample'], tokens, state)
      dynamics, representation = core.kl(latents)
      scalar = (
          tf.reduce_sum(latents.deter * DATA['grad/weight_deter'])
          + tf.reduce_sum(latents.stoch * DATA['grad/weight_stoch'])
          + tf.reduce_sum(tf.maximum(free, dynamics))
          + 0.1 * tf.reduce_sum(tf.maximum(free, representation)))
    sources = [*state, tokens, action, *(weights[n] for n in names)]
    return scalar, tape.gradient(scalar, sources)

  scalar, (deter, stoch, tokens_grad, action_grad, *grads) = modes.compiled(
      run, mode, monkeypatch)()
  np.testing.assert_allclose(scalar, DATA['grad/scalar'], rtol=1e-4)
  golden_weights.gradients(deter, DATA['grad/carry_deter'])
  golden_weights.gradients(stoch, DATA['grad/carry_stoch'])
  golden_weights.gradients(tokens_grad, DATA['grad/tokens'])
  golden_weights.gradients(action_grad, DATA['grad/prev_action'])
  for name, grad in zip(names, grads, strict=True):
    golden_weights.gradients(grad, DATA[f'grad/w/dyn/{name}'], name)


def test_rssm_core_imagine():
  core, _ = make('', DATA['imagine/action'].shape[-1])
  start = categorical.State(
      tf.constant(DATA['imagine/start_deter']),
      tf.constant(DATA['imagine/start_stoch']))
  class Policy:
    event_shape = DATA['imagine/action'].shape[-1:]
  rng = recorded.Recorded({
      'latent': DATA['imagine/stoch_sample'], 'action': DATA['imagine/action']})
  latents, actions, state = core.imagine(
      lambda features, rng: rng.sample(Policy), start,
      DATA['imagine/action'].shape[1], rng)
  golden_weights.outputs(latents.deter, DATA['imagine/deter'])
  golden_weights.outputs(latents.logits, DATA['imagine/prior_logits'])
  np.testing.assert_array_equal(actions, DATA['imagine/action'])
  golden_weights.outputs(state.deter, DATA['imagine/deter'][:, -1])


def test_rssm_core_mixed_actions():
  prefix = 'mixed_actions/prev_action/'
  actions = {
      k[len(prefix):]: tf.constant(v) for k, v in DATA.items()
      if k.startswith(prefix)}
  total = DATA['mixed_actions/w/dyn/dynin2/kernel'].shape[0]
  numbers = actions['a_cont'].shape[-1]
  codec = inputs.ActionCodec({
      'a_cont': types.Spec((numbers,), 'float32'),
      'b_disc': types.Spec((), 'int32', (total - numbers,))})
  core, _ = make('mixed_actions/', codec.size)
  latents, _ = observe(
      core, codec.encode(actions), DATA['mixed_actions/stoch_sample'])
  golden_weights.outputs(latents.deter, DATA['mixed_actions/deter'])
  golden_weights.outputs(latents.logits, DATA['mixed_actions/post_logits'])


def test_rssm_core_absolute():
  core, _ = make(
      'absolute/', DATA['observe/prev_action'].shape[-1], absolute=True)
  latents, _ = observe(
      core, tf.constant(DATA['observe/prev_action']),
      DATA['absolute/stoch_sample'])
  golden_weights.outputs(latents.deter, DATA['absolute/deter'])
  golden_weights.outputs(latents.logits, DATA['absolute/post_logits'])
