"""Products of distributions over pieces of one flat vector."""

import tensorflow as tf
import tensorflow_probability as tfp

from dv3.distributions import base


class Concatenated(base.Distribution):
  """Independent distributions over consecutive pieces of a flat event [A].

  Each piece is a distribution whose event is flattened; this is how an actor
  describes actions of several kinds at once. Entropies are sums over the
  pieces, and so are KLs, of products that are cut alike.

  Args:
    pieces: distributions with equal batch shapes and static event shapes.
  """

  def __init__(self, pieces):
    self.pieces = list(pieces)
    self.sizes = [x.event_shape.num_elements() for x in self.pieces]
    first = self.pieces[0]
    rank = len(first.batch_shape)
    parameter = first.mean()
    super().__init__(
        parameter, parameter.shape.rank - rank, [sum(self.sizes)],
        'Concatenated')
    self._remember(pieces=self.pieces)

  def __getitem__(self, slices):
    return Concatenated([piece[slices] for piece in self.pieces])

  def _split(self, value):
    """Cuts value [..., A] into events of the pieces."""
    parts = tf.split(value, self.sizes, -1)
    for piece, part in zip(self.pieces, parts, strict=True):
      shape = tf.concat([tf.shape(part)[:-1], piece.event_shape], 0)
      result = tf.reshape(part, shape)
      yield piece, tf.ensure_shape(
          result, [*part.shape[:-1], *piece.event_shape])

  def _join(self, values):
    """Flattens events and concatenates them to [..., A]."""
    flat = []
    for value, piece in zip(values, self.pieces, strict=True):
      rank = len(piece.event_shape)
      lead = tf.shape(value)[:value.shape.rank - rank]
      size = piece.event_shape.num_elements()
      flat.append(tf.ensure_shape(
          tf.reshape(value, tf.concat([lead, [size]], 0)),
          [*value.shape[:value.shape.rank - rank], size]))
    return tf.concat(flat, -1)

  def _log_prob(self, value):
    return tf.add_n([x.log_prob(part) for x, part in self._split(value)])

  def _entropy(self):
    return tf.add_n([x.entropy() for x in self.pieces])

  def _mode(self):
    return self._join([x.mode() for x in self.pieces])

  def _mean(self):
    return self._join([x.mean() for x in self.pieces])

  def draw(self, rng):
    """Draws each piece with its own key."""
    return self._join([
        rng.fold(i).sample(x) if i else rng.sample(x)
        for i, x in enumerate(self.pieces)])

  def straight_through(self, sample):
    """Returns `sample` with gradients: straight-through where categorical."""
    return self._join([
        piece.straight_through(part) if hasattr(piece, 'straight_through')
        else part for piece, part in self._split(sample)])


@tfp.distributions.RegisterKL(Concatenated, Concatenated)
def _kl_concatenated(p, q, name=None):
  """KL(p || q) = sum of the KLs of the pieces, [*batch]."""
  del name
  if p.sizes != q.sizes:
    raise ValueError(f'pieces of {p.sizes} numbers and of {q.sizes} have no KL')
  return tf.add_n([
      tfp.distributions.kl_divergence(a, b)
      for a, b in zip(p.pieces, q.pieces, strict=True)])
