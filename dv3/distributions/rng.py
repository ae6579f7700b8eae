"""Stateless random numbers that do not depend on how a batch is split.

An `Rng` is a key that is passed to whatever draws. It is folded by use and by
time step, and numbers belong to the *global* index of an example: N replicas
with B / N examples each draw what one replica with B examples draws. Numbers
are raw Philox bits, which agree bit for bit eagerly, in graphs and under XLA
(TensorFlow's conversion of bits to floats does not).
"""

import math
import zlib

import tensorflow as tf

_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_GOLDEN = 0x9E3779B97F4A7C15
_PHILOX = 1


class Rng:
  """A key for stateless draws.

    rng = Rng(seed).fold('posterior')
    sample = rng.at(step).sample(distribution)       # leading axis: examples

  Args:
    seed: int or integer scalar tensor.
    offset: int64, the global index of the first example of this batch.
    step: int64, the time step.
  """

  def __init__(self, seed, offset=0, step=0):
    self._seed = tf.cast(seed, tf.uint64)
    self._offset = tf.cast(offset, tf.int64)
    self._step = tf.cast(step, tf.int64)

  def fold(self, use) -> 'Rng':
    """Returns the key of one use: a name, an int or an integer tensor."""
    if isinstance(use, str):
      use = zlib.crc32(use.encode())
    if isinstance(use, int):
      use = tf.constant(use % 2 ** 64, tf.uint64)
    salt = _mix(tf.cast(use, tf.uint64) + tf.constant(_GOLDEN, tf.uint64))
    seed = _mix(tf.bitwise.bitwise_xor(self._seed, salt))
    return Rng(seed, self._offset, self._step)

  def at(self, step) -> 'Rng':
    """Returns the key of a time step."""
    return Rng(self._seed, self._offset, step)

  def starting(self, offset) -> 'Rng':
    """Returns the key of a batch whose first example has a global index."""
    return Rng(self._seed, offset, self._step)

  def rows(self, per_example: int) -> 'Rng':
    """Returns the key for examples that became `per_example` rows each."""
    return Rng(self._seed, self._offset * per_example, self._step)

  def uniform(self, shape):
    """Draws float32 in (0, 1) of a static shape [examples, ...].

    The leading axis may be a tensor. Shape [] is that of one example.
    """
    if len(shape) == 0:
      return self.uniform([1])[0]
    size = math.prod(shape[1:])
    blocks = -(-size // 4)  # A Philox block has four numbers.
    counter = tf.stack([self._offset * blocks, self._step])
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([shape[0], 4 * blocks]),
        key=tf.reshape(self._seed, [1]), counter=tf.cast(counter, tf.uint64),
        alg=_PHILOX, dtype=tf.uint32)
    return open_unit(tf.reshape(bits[:, :size], shape))

  def normal(self, shape):
    """Draws float32 standard normals of a static shape [examples, ...]."""
    return tf.math.ndtri(self.uniform(shape))

  def sample(self, distribution):
    """Draws one sample with the batch and event shape of a distribution.

    Distributions of this library draw by their method `draw(rng)`; another
    TFP distribution is sampled with a seed folded from this key, whose numbers
    may differ between eager and compiled code.
    """
    if hasattr(distribution, 'draw'):
      return distribution.draw(self)
    bits = _mix(tf.bitwise.bitwise_xor(
        _mix(self._seed + tf.cast(self._offset, tf.uint64)),
        tf.cast(self._step, tf.uint64)))
    return distribution.sample(seed=tf.bitcast(bits, tf.int32))


def open_unit(bits):
  """Maps uint32 bits to float32 in (0, 1), 0 and 1 left out.

  23 bits and a half are exact in float32; with 24 the largest would round to
  1, whose normal is infinite.
  """
  high = tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32))
  return (tf.cast(high, tf.float32) + 0.5) * 2.0 ** -23


def _mix(x):
  """The finaliser of SplitMix64 (Steele et al. 2014) on uint64."""
  for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
    x = tf.bitwise.bitwise_xor(
        x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64)))
    x *= tf.constant(multiplier, tf.uint64)
  return tf.bitwise.bitwise_xor(
      x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))
