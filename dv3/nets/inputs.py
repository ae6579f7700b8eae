"""Turning observations, actions and named features into network inputs."""

import tensorflow as tf

from dv3 import errors
from dv3 import types
from dv3.nets import linear
from dv3.nets import symlog as symlog_lib


def one_hot(value, classes):
  """One-hot encodes class indices, element by element.

  Args:
    value: [..., elements] integers, row-major elements of an entry.
    classes: the number of classes of each element.

  Returns:
    [..., sum(classes)] float32.
  """
  value = tf.cast(value, tf.int32)
  if len(set(classes)) == 1:
    encoded = tf.one_hot(value, classes[0])
    lead = linear.dynamic_shape(value)[:-1]
    return tf.reshape(encoded, [*lead, sum(classes)])
  return tf.concat(
      [tf.one_hot(value[..., i], n) for i, n in enumerate(classes)], -1)


def entry(entries, key: str, spec: types.Spec):
  """Returns one entry as a tensor, once its shape is checked.

  Args:
    entries: {key: [..., *shape]}.
    key: of the entry.
    spec: what it is described as.

  Raises:
    UserError: if it is missing, or its last axes are others than its spec's:
      by a reshape they would become other numbers.
  """
  if key not in entries:
    raise errors.UserError(
        f'the entry {key!r} is missing; there are {sorted(entries)}')
  value = tf.convert_to_tensor(entries[key])
  rank = len(spec.shape)
  if value.shape.rank is not None and (
      value.shape.rank < rank or not value.shape[
          value.shape.rank - rank:].is_compatible_with(spec.shape)):
    raise errors.UserError(
        f'{key!r} has the shape {tuple(value.shape)}, but its spec says '
        f'{tuple(spec.shape)}, behind the axes of batch and time; make both '
        'the same')
  return value


def flatten(value, spec: types.Spec):
  """Reshapes value [..., *spec.shape] to [..., spec.size]."""
  rank = len(spec.shape)
  lead = linear.dynamic_shape(value)[:value.shape.rank - rank]
  return tf.reshape(value, [*lead, spec.size])


def vectors(obs, specs: types.Specs, symlog: bool):
  """Concatenates entries, one-hot where discrete, in alphabetical order.

  Args:
    obs: {key: [..., *shape]}.
    specs: the entries to use.
    symlog: whether numbers pass through symlog.

  Returns:
    [..., sum of encoded sizes] float32.

  Raises:
    UserError: as `entry`.
  """
  parts = []
  for key in sorted(specs):
    value = flatten(entry(obs, key, specs[key]), specs[key])
    if specs[key].is_discrete:
      parts.append(one_hot(value, specs[key].classes))
    else:
      value = tf.cast(value, tf.float32)
      parts.append(symlog_lib.symlog(value) if symlog else value)
  return tf.concat(parts, -1)


def concat_features(features, names):
  """Concatenates named features [..., F_name] to [..., F].

  Args:
    features: {name: tensor}, in any order.
    names: the names in the order wanted, that of the core's `feature_spec` for
      most parts.
  """
  return tf.concat([features[name] for name in names], -1)


class ActionCodec:
  """Translates between action entries and the flat vector of the networks.

  Entries are concatenated in alphabetical order, class indices one-hot, numbers
  as they are.

  Args:
    specs: {name: Spec} of the actions.
  """

  def __init__(self, specs: types.Specs):
    self.specs = {key: specs[key] for key in sorted(specs)}
    self.size = sum(x.encoded_size for x in self.specs.values())

  def encode(self, actions):
    """Maps {name: [..., *shape]} to [..., A] float32."""
    return vectors(actions, self.specs, symlog=False)

  def decode(self, vector):
    """Maps [..., A] to {name: [..., *shape]}: int32 indices or float32."""
    lead = linear.dynamic_shape(vector)[:-1]
    result, start = {}, 0
    for key, spec in self.specs.items():
      piece = vector[..., start: start + spec.encoded_size]
      start += spec.encoded_size
      if spec.classes is not None:
        ends = [sum(spec.classes[:i]) for i in range(len(spec.classes) + 1)]
        piece = tf.stack([
            tf.argmax(piece[..., ends[i]: ends[i + 1]], -1, tf.int32)
            for i in range(len(spec.classes))], -1)
      result[key] = tf.reshape(piece, [*lead, *spec.shape])
    return result
