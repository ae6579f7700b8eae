"""Golden numbers: LaProp, its options and its schedules."""

import functools
import inspect

import golden_data
import numpy as np
import pytest
import tensorflow as tf

from dv3.optimizers import clipping
from dv3.optimizers import laprop
from dv3.optimizers import schedules

DATA = golden_data.load('optimizer')
START = 'param_before/'
NAMES = sorted(k.removeprefix(START) for k in DATA if k.startswith(START))
BIG = {'learning_rate': 1e-2, 'warmup_updates': 0}
ANNEALED = {'learning_rate': 1e-2, 'warmup_updates': 3, 'anneal_updates': 10}
VARIANTS = {
    'default': {'learning_rate': 4e-5, 'warmup_updates': 1000},
    'nowarmup': {'learning_rate': 4e-5, 'warmup_updates': 0},
    'biglr_warmup4': {**BIG, 'warmup_updates': 4},
    'biglr_noagc': {**BIG, 'agc': 0.0},
    'biglr_nesterov': {**BIG, 'nesterov': True},
    'biglr_wd': {**BIG, 'weight_decay': 0.1},
    'biglr_cosine': {**ANNEALED, 'schedule': 'cosine'},
    'biglr_linear': {**ANNEALED, 'schedule': 'linear'}}


def close(actual, expected, rtol, floor=1e-6):
  np.testing.assert_allclose(
      actual, expected, rtol=rtol,
      atol=floor * np.abs(expected).max())


def slot_of(optimizer, slot, variable):
  """Finds a slot variable as a reader of a checkpoint would, by its name."""
  name = f'{slot}/{variable.name}'
  found, = (v for v in optimizer.variables if v.name.endswith(name))
  return found


@functools.cache
def run(variant):
  """Applies the file's gradients; returns {kind/name: [steps, ...]}."""
  optimizer = laprop.LaProp(**VARIANTS[variant])
  variables = {
      n: tf.Variable(DATA[START + n], name=n) for n in NAMES}
  optimizer.build(list(variables.values()))
  slots = {
      slot: [slot_of(optimizer, slot, v) for v in variables.values()]
      for slot in ('second_moment', 'momentum')}
  schedule = schedules.make(**{
      'schedule': 'constant', **{k: v for k, v in VARIANTS[variant].items() if (
          k in inspect.signature(schedules.make).parameters)}})
  decay = VARIANTS[variant].get('weight_decay', 0.0)

  def exact(gradients, t):
    """Returns what is added to each parameter, before any rounding by it."""
    directions, _ = optimizer.directions(
        gradients, [tf.identity(v) for v in variables.values()],
        {k: [tf.identity(v) for v in of_slot] for k, of_slot in slots.items()},
        tf.constant(t + 1.0))
    return {n: -schedule(t) * (d + decay * variables[n] * n.endswith('kernel'))
            for n, d in zip(NAMES, directions, strict=True)}

  @tf.function
  def step(gradients):
    optimizer.apply_gradients(
        (gradients[n], variables[n]) for n in NAMES)

  results = {}
  for t in range(len(DATA[f'grad/{NAMES[0]}'])):
    gradients = {n: tf.constant(DATA[f'grad/{n}'][t]) for n in NAMES}
    updates = exact(list(gradients.values()), t)
    step(gradients)
    for n, variable in variables.items():
      for kind, value in (
          ('param_after', variable), ('update', updates[n]),
          ('second_moment', slot_of(optimizer, 'second_moment', variable)),
          ('momentum', slot_of(optimizer, 'momentum', variable))):
        results.setdefault(f'{kind}/{n}', []).append(value.numpy())
  return {k: np.stack(v) for k, v in results.items()}


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('variant', list(VARIANTS))
def test_optimizer_variant(variant, name):
  results = run(variant)
  parameter = DATA[f'{variant}/param_after/{name}']
  update = DATA[f'{variant}/update/{name}']
  error = 2e-4 * np.abs(update) + 1e-6 * np.abs(update).max()
  # Ours and the file's parameters are rounded each time, which adds up. With
  # small rates rounding is all that they show, but the updates are exact.
  rounding = 2e-7 * np.abs(parameter)
  np.testing.assert_array_less(
      np.abs(results[f'update/{name}'] - update), error + 1e-30)
  np.testing.assert_array_less(
      np.abs(results[f'param_after/{name}'] - parameter),
      np.cumsum(error + rounding, 0) + 1e-30)
  for slot in ('second_moment', 'momentum'):
    key = f'{variant}/{slot}/{name}'
    if key in DATA:
      close(results[f'{slot}/{name}'], DATA[key], 2e-4)


def test_optimizer_covers_every_variant_of_the_file():
  stems = {k.split('/')[0] for k in DATA if '/update/' in k}
  assert stems == set(VARIANTS)


@pytest.mark.parametrize('name', NAMES)
def test_optimizer_agc_only(name):
  parameter = tf.constant(DATA[START + name])
  for gradient, expected in zip(
      DATA[f'grad/{name}'], DATA[f'agc_only/{name}'], strict=True):
    clipped, = clipping.adaptive([gradient], [parameter], 0.3)
    close(clipped, expected, 2e-5)


def test_optimizer_zero_gradients_change_nothing():
  unused, = (n for n in NAMES if n.startswith('unused'))
  assert not DATA[f'grad/{unused}'].any()
  for variant in set(VARIANTS) - {'biglr_wd'}:  # Decay needs no gradient.
    after = run(variant)[f'param_after/{unused}']
    np.testing.assert_array_equal(
        after, np.broadcast_to(DATA[START + unused], after.shape))


def test_optimizer_schedule():
  schedule = schedules.make('constant', 4e-5, warmup_updates=1000)
  rates = [schedule(step).numpy() for step in DATA['schedule/step']]
  # The file has the rates as differences of parameters.
  close(rates, DATA['schedule/learning_rate'], 2e-5)


def test_optimizer_edge_of_underflow():
  gradient = DATA['edge/tiny_grad']
  optimizer = laprop.LaProp(learning_rate=1e-2, warmup_updates=0)
  variable = tf.Variable(np.zeros_like(gradient))
  optimizer.apply_gradients([(tf.constant(gradient), variable)])
  moved = np.abs(variable.numpy())
  # Where squares underflow, eps alone divides; elsewhere steps have length 1.
  share = np.clip(np.abs(gradient) / optimizer.eps, 1.0, 350.0)
  np.testing.assert_array_less(moved, 1e-2 * share * 1.01)
  whole = np.square(gradient) > 1e-30
  assert whole.any() and moved[whole].min() > 0.9e-2
