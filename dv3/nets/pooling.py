"""Maxima over 2 x 2 pixels, whose gradient needs no pixels."""

import tensorflow as tf

from dv3.nets import fusion


def max_pool2(x):
  """Returns non-overlapping 2 x 2 maxima of x [N, Y, X, ch], even Y and X.

  Several greatest pixels share the gradient evenly, as in the reference. What
  is kept for it is a byte a maximum that says which they are, a sixteenth of x.
  """
  _, rows, columns, depth = x.shape
  x = tf.reshape(x, [-1, rows // 2, 2, columns // 2, 2, depth])
  return _maxima(x, (2, 4))


def folded_max_pool2(x):
  """Returns the maxima of x [N, Y, X, 4, ch], which has 2 x 2 pixels in axis 3.

  See `max_pool2`.
  """
  return _maxima(x, (3,))


def _maxima(x, axes):
  """Returns maxima over the four pixels that lie along these axes of x."""
  windows = [x.shape[i] if i in axes else 1 for i in range(len(x.shape))]
  flags = tf.reshape(tf.constant([1, 2, 4, 8], tf.uint8), windows)

  def forward(x):
    # Pixel by pixel: a reduction over axes of two and two is half as fast.
    # In float32: XLA rounds every step of bfloat16.
    pixels = [tf.cast(x, tf.float32)]
    for gone, axis in enumerate(axes):
      pixels = [p for y in pixels for p in tf.unstack(y, axis=axis - gone)]
    maxima = tf.maximum(
        tf.maximum(pixels[0], pixels[1]), tf.maximum(pixels[2], pixels[3]))
    greatest = sum(
        tf.where(pixel == maxima, tf.constant(1 << i, tf.uint8),
                 tf.constant(0, tf.uint8))
        for i, pixel in enumerate(pixels))
    return tf.cast(maxima, x.dtype), greatest

  def backward(upstream, greatest):
    count = sum(
        tf.cast(greatest & tf.constant(1 << i, tf.uint8) != 0, tf.float32)
        for i in range(4))
    share = tf.cast(tf.cast(upstream, tf.float32) / count, upstream.dtype)
    for axis in axes:
      share = tf.expand_dims(share, axis)
      greatest = tf.expand_dims(greatest, axis)
    return tf.where(greatest & flags != 0, share, tf.zeros_like(share))

  forward, backward = fusion.compiled(forward), fusion.compiled(backward)

  @tf.custom_gradient
  def run(x):
    maxima, greatest = fusion.untaped(forward, x)
    return maxima, lambda upstream: backward(upstream, greatest)

  return run(x)
