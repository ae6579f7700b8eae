"""Golden numbers of the 2023 form: the GRU core."""

import golden_data
import golden_weights
import modes
import numpy as np
import pytest
import recorded
import tensorflow as tf

from dv3 import distributions
from dv3.cores import categorical
from dv3.cores import gru
from dv3.losses import kl

DATA = golden_data.load('v1_rssm')


def hidden(name, layer):
  return {
      f'{name}/kernel': layer.linear.kernel,
      f'{name}/norm/scale': layer.norm.scale,
      f'{name}/norm/bias': layer.norm.shift}


def make():
  deter, units, stoch, classes = (
      int(x) for x in DATA['config/deter_units_stoch_classes'])
  core = gru.GRUCore(
      token_size=DATA['observe/embed'].shape[-1],
      action_size=DATA['img_step/action'].shape[-1], deter=deter,
      hidden=units, stoch=stoch, classes=classes, unimix=0.01)
  core.build()
  weights = {
      **hidden('img_in', core.input_hidden),
      **hidden('img_out', core.prior_hidden),
      **hidden('obs_out', core.posterior_hidden),
      'gru/kernel': core.gates.kernel, 'gru/norm/scale': core.gates_norm.scale,
      'gru/norm/bias': core.gates_norm.shift,
      'img_stats/kernel': core.prior_logits.kernel,
      'img_stats/bias': core.prior_logits.bias,
      'obs_stats/kernel': core.posterior_logits.kernel,
      'obs_stats/bias': core.posterior_logits.bias,
      'initial': core.initial_deter}
  golden_weights.assign(weights, DATA, 'w/rssm/')
  return core


def mixed(logits):
  """Returns log-probabilities after 1 % unimix, as the file has them."""
  return distributions.OneHot(logits, 0.01).log_probs


def test_v1_rssm_gru():
  core = make()
  x, deter = tf.constant(DATA['gru/x']), tf.constant(DATA['gru/deter_in'])
  with tf.GradientTape() as tape:
    result = core.cell(core.cell_weights(), deter, x)
    scalar = tf.reduce_sum(result * DATA['gru/cotangent'])
  golden_weights.outputs(result, DATA['gru/deter_out'])
  names = ('kernel', 'norm/scale', 'norm/bias')
  grads = tape.gradient(scalar, [
      core.gates.kernel, core.gates_norm.scale, core.gates_norm.shift])
  for name, grad in zip(names, grads, strict=True):
    golden_weights.gradients(grad, DATA[f'gru/grad/w/rssm/gru/{name}'], name)


def test_v1_rssm_img_step():
  core = make()
  sample = DATA['img_step/stoch_sample']
  latents, state = core.imagine_step(
      tf.constant(DATA['img_step/action']), categorical.State(
          tf.constant(DATA['img_step/deter_in']),
          tf.constant(DATA['img_step/stoch_in'])),
      recorded.Recorded({'': sample[:, None]}).at(0))
  golden_weights.outputs(state.deter, DATA['img_step/deter_out'])
  np.testing.assert_allclose(
      mixed(latents.logits), DATA['img_step/logits_after_unimix'],
      rtol=1e-4, atol=1e-5)
  golden_weights.outputs(state.stoch, sample)


def test_v1_rssm_initial():
  expected = DATA['initial/deter']
  state = make().initial(len(expected))
  golden_weights.outputs(state.deter, expected)
  np.testing.assert_array_equal(state.stoch, DATA['initial/stoch_mode'])


@pytest.mark.parametrize('mode', modes.MODES)
def test_v1_rssm_observe(mode, monkeypatch):
  core = make()
  batch = len(DATA['observe/embed'])

  def run():
    latents, _ = core.observe(
        tf.constant(DATA['observe/embed']),
        tf.constant(DATA['observe/prev_action']),
        tf.constant(DATA['observe/is_first']) > 0, core.initial(batch),
        recorded.Recorded({'': DATA['observe/post_stoch_sample']}))
    return latents, core.prior(latents.deter)

  latents, prior = modes.compiled(run, mode, monkeypatch)()
  golden_weights.outputs(latents.deter, DATA['observe/deter'])
  for logits, name in ((latents.logits, 'post'), (prior, 'prior')):
    np.testing.assert_allclose(
        mixed(logits), DATA[f'observe/{name}_logits_after_unimix'],
        rtol=1e-4, atol=1e-5)
  class Context:
    parts = {'core': core}
  Context.latents = latents
  losses, _ = kl.KLLoss(free_nats=1.0)(Context)
  for name, key in (('dynamics', 'dyn'), ('representation', 'rep')):
    np.testing.assert_allclose(
        losses[name], DATA[f'observe/{key}_loss'], rtol=1e-4, atol=1e-5)


def test_v1_rssm_observe_trains_the_initial_state():
  core = make()
  with tf.GradientTape() as tape:
    latents, _ = core.observe(
        tf.constant(DATA['observe/embed']),
        tf.constant(DATA['observe/prev_action']),
        tf.constant(DATA['observe/is_first']) > 0, core.initial(
            len(DATA['observe/embed'])),
        recorded.Recorded({'': DATA['observe/post_stoch_sample']}))
    scalar = tf.reduce_sum(latents.deter)
  gradient = tape.gradient(scalar, core.initial_deter)
  assert np.abs(gradient).max() > 1e-3
