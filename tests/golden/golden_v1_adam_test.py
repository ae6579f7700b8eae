"""Golden numbers of the 2023 form: Adam with clipping by the global norm."""

import golden_data
import numpy as np
import pytest
import tensorflow as tf

from dv3.optimizers import adam

DATA = golden_data.load('v1_actor_critic')
NAMES = [k.removeprefix('adam/param_before/') for k in DATA
         if k.startswith('adam/param_before/')]
STEPS = len(DATA[f'adam/grad/{NAMES[0]}'])


@pytest.mark.parametrize('case', ['world_model', 'actor_critic'])
def test_v1_actor_critic_adam(case):
  rate, eps, clip = (float(x) for x in DATA[f'adam/{case}/lr_eps_clip'])
  optimizer = adam.Adam(learning_rate=rate, eps=eps, clip=clip)
  variables = [
      tf.Variable(DATA[f'adam/param_before/{name}']) for name in NAMES]
  step = tf.function(lambda gradients: optimizer.apply_gradients(
      list(zip(gradients, variables, strict=True))), autograph=False)
  optimizer.build(variables)
  for i in range(STEPS):
    before = [v.numpy() for v in variables]
    step([tf.constant(DATA[f'adam/grad/{name}'][i]) for name in NAMES])
    for name, old, variable in zip(NAMES, before, variables, strict=True):
      update = DATA[f'adam/{case}/update/{name}'][i]
      expected = DATA[f'adam/{case}/param_after/{name}'][i]
      allowed = (
          2e-4 * np.abs(update) + 1e-6 * np.abs(update).max()
          + 2e-7 * np.abs(expected))
      error = np.abs(variable.numpy() - old - update)
      np.testing.assert_array_less(error, allowed + 1e-30, f'{name} {i}')
