"""Golden numbers: the replay trace, write-back and replay context."""

import golden_data
import numpy as np
import pytest

from dv3 import types
from dv3.replay import context
from dv3.replay import replay as replay_lib

DATA = golden_data.load('replay_context')


def buffer(name):
  return DATA[f'buffer/{name}']


def fill(amount=1):
  """Replays the trace; returns the replay and what it held after each add."""
  length = int(buffer('sequence_length'))
  latent = buffer('latent_before')
  replay = replay_lib.Replay(
      {'t': types.Spec((), 'int32'), 'action': types.Spec((), 'int32', (9,)),
       'reward': types.Spec((), 'float32'),
       'is_first': types.Spec((), 'bool'), 'is_last': types.Spec((), 'bool'),
       'is_terminal': types.Spec((), 'bool'),
       'latent/x': types.Spec(latent.shape[1:], 'float32')},
      capacity=1000, length=length - amount, context=amount,
      chunk_steps=int(buffer('chunk_size')))
  items, online = [], []
  for t, value in enumerate(latent):
    replay.add({
        't': [t], 'action': [t % 9], 'reward': [t],
        'is_first': buffer('is_first')[t: t + 1],
        'is_last': buffer('is_last')[t: t + 1], 'is_terminal': [False],
        'latent/x': value[None]}, [0])
    items.append(len(replay))
    online.append(len(replay.queue))
  return replay, items, online


def start_times(replay, items):
  return replay.chunks.arrays['t'][replay.starts[items % replay.capacity]]


def test_replay_context_trace():
  replay, items, online = fill()
  np.testing.assert_array_equal(items, buffer('num_items_after_each_add'))
  np.testing.assert_array_equal(online, buffer('num_online_after_each_add'))
  np.testing.assert_array_equal(
      start_times(replay, np.arange(len(replay))), buffer('item_start_t'))
  np.testing.assert_array_equal(
      start_times(replay, np.array(replay.queue)), buffer('online_start_t'))
  slots = replay.chunks.alive()
  np.testing.assert_array_equal(
      replay.chunks.filled[slots], buffer('chunk_lengths'))


@pytest.mark.parametrize(
    'amount', range(int(buffer('sequence_length'))))
def test_replay_context_online_batch_with_any_context(amount):
  replay, _, _ = fill(amount)
  times = buffer('online_batch_t')
  batch = replay.sample(len(times))
  for name in ('is_first', 'is_last'):
    np.testing.assert_array_equal(
        batch[name], buffer(f'online_batch_{name}')[:, amount:])
  np.testing.assert_array_equal(batch['t'], times[:, amount:])
  np.testing.assert_array_equal(batch['reward'], times[:, amount:])
  np.testing.assert_array_equal(
      batch['stepid'] % replay.chunks.chunk_steps,
      buffer('online_batch_stepid_index')[:, amount:])
  if amount:
    np.testing.assert_array_equal(
        batch['latent/x'], buffer('online_batch_latent')[:, amount - 1])


def test_replay_context_online_batch_and_write_back():
  replay, _, _ = fill()
  times = buffer('online_batch_t')
  batch = replay.sample(len(times))
  assert not replay.queue
  np.testing.assert_array_equal(batch['t'], times[:, 1:])
  np.testing.assert_array_equal(batch['prev_action'], times[:, :-1] % 9)
  # The batch holds the trained part, positions 1 and later.
  np.testing.assert_array_equal(
      batch['is_first'], buffer('online_batch_is_first')[:, 1:])
  np.testing.assert_array_equal(
      batch['is_last'], buffer('online_batch_is_last')[:, 1:])
  np.testing.assert_array_equal(
      batch['latent/x'], buffer('online_batch_latent')[:, 0])
  np.testing.assert_array_equal(
      batch['stepid'] % replay.chunks.chunk_steps,
      buffer('online_batch_stepid_index')[:, 1:])
  replay.write_latents(
      batch['stepid'], {'latent/x': buffer('written_latent')})
  after = buffer('latent_after')
  order = np.concatenate([
      replay.chunks.arrays['latent/x'][
          s * replay.chunks.chunk_steps:][:replay.chunks.filled[s]]
      for s in replay.chunks.alive()])
  np.testing.assert_array_equal(order, after)


@pytest.mark.parametrize('case', ['apply_consec0', 'apply_consec1'])
def test_replay_context_apply(case):
  prefix = f'{case}/batch/'
  sequence = {
      k[len(prefix):].replace('dyn/', 'latent/'): v for k, v in DATA.items()
      if k.startswith(prefix)}
  number = int(sequence.pop('consec')[0, 0])
  carry = {
      f'latent/{k}': DATA[f'{case}/carry/{k}'] for k in ('deter', 'stoch')}
  amount = int(DATA['apply_context_length'])
  length = sequence['reward'].shape[1] - amount
  result = context.apply(
      sequence, carry, number, length=length, context=amount)
  expected = {
      'latent/deter': 'initial_deter', 'latent/stoch': 'initial_stoch',
      'prev_action': 'prev_action', 'stepid': 'stepid',
      **{k: f'obs/{k}' for k in (
          'is_first', 'is_last', 'is_terminal', 'reward', 'vec')}}
  assert set(result) == set(expected)
  for ours, theirs in expected.items():
    np.testing.assert_array_equal(
        result[ours], DATA[f'{case}/out/{theirs}'], ours)
