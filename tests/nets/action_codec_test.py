"""Action entries and the flat vector of the networks."""

import numpy as np
import pytest
import tensorflow as tf

from dv3 import types
from dv3.nets import inputs

SPECS = {
    'action/turn': types.Spec((3,), 'float32'),
    'action/grid': types.Spec((2, 2), 'float32'),
    'action/buttons': types.Spec((4,), 'int32', (2, 2, 2, 2)),
    'action/levels': types.Spec((3,), 'int32', (5, 2, 3)),
    'action/mode': types.Spec((), 'int32', (6,))}


def draw(lead, seed=0):
  """Draws valid actions of every entry, [*lead, *shape]."""
  rng = np.random.default_rng(seed)
  result = {}
  for key, spec in SPECS.items():
    if spec.classes is None:
      result[key] = rng.normal(size=(*lead, *spec.shape)).astype(np.float32)
    else:
      flat = rng.integers(0, spec.classes, (*lead, len(spec.classes)))
      result[key] = flat.reshape((*lead, *spec.shape)).astype(np.int32)
  return {key: tf.constant(value) for key, value in result.items()}


@pytest.mark.parametrize('lead', [(4,), (2, 3)])
def test_decoding_undoes_encoding(lead):
  codec = inputs.ActionCodec(SPECS)
  actions = draw(lead)
  vector = codec.encode(actions)
  assert vector.shape == [*lead, codec.size]
  decoded = codec.decode(vector)
  assert set(decoded) == set(actions)
  for key, value in actions.items():
    np.testing.assert_array_equal(decoded[key], value, key)
    assert decoded[key].dtype == SPECS[key].dtype


def test_entries_stand_in_alphabetical_order_one_hot_where_discrete():
  codec = inputs.ActionCodec({
      'b': types.Spec((2,), 'int32', (3, 2)), 'a': types.Spec((1,), 'float32')})
  vector = codec.encode({
      'b': tf.constant([2, 0]), 'a': tf.constant([0.5])})
  np.testing.assert_array_equal(vector, [0.5, 0, 0, 1, 1, 0])
  assert codec.size == 6


def test_the_order_of_the_specs_does_not_matter():
  backward = inputs.ActionCodec(dict(reversed(SPECS.items())))
  actions = draw((3,))
  np.testing.assert_array_equal(
      backward.encode(actions), inputs.ActionCodec(SPECS).encode(actions))
