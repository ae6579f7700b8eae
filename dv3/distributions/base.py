"""What the library's distributions share."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class Distribution(tfd.Distribution):
  """A TFP distribution over one parameter tensor, computed in float32.

  Copies and slices of the batch are made of what subclasses give to `_remember`
  at the end of their constructors.

  Args:
    parameter: tensor [*batch, *rest] that gives the batch shape.
    rest: how many trailing axes are not batch axes.
    event: the event shape.
    name: name of the distribution.
  """

  def __init__(self, parameter, rest: int, event, name: str):
    self._rest = rest
    self._lead = parameter.shape[:parameter.shape.rank - rest]
    self._lead_tensor = lambda: tf.shape(parameter)[
        :parameter.shape.rank - rest]
    self._event = tf.TensorShape(event)
    super().__init__(
        dtype=tf.float32, reparameterization_type=tfd.NOT_REPARAMETERIZED,
        validate_args=False, allow_nan_stats=True, parameters={}, name=name)

  def _remember(self, *tensors: str, **arguments) -> None:
    """Keeps the constructor's arguments; the last call is the class's own.

    Args:
      *tensors: names of those that are [*batch, *rest].
      **arguments: all of them.
    """
    self._tensors = tensors
    self._parameters = self._no_dependency(arguments)

  def __getitem__(self, slices):
    """Slices the batch axes, as TFP's own distributions do."""
    slices = slices if isinstance(slices, tuple) else (slices,)
    if not any(x is Ellipsis for x in slices):
      slices = (*slices, Ellipsis)
    slices = (*slices, *[slice(None)] * self._rest)
    return self.copy(**{
        name: self.parameters[name][slices] for name in self._tensors})

  def _batch_shape(self):
    return self._lead

  def _batch_shape_tensor(self):
    return self._lead_tensor()

  def _event_shape(self):
    return self._event

  def _event_shape_tensor(self):
    return tf.constant(self._event.as_list(), tf.int32)

  def _sample_n(self, n, seed=None):
    """TFP's own `sample`; the library draws through `draw(rng)` instead."""
    from dv3.distributions import rng as rng_lib
    seed = tfp.random.sanitize_seed(seed)
    key = rng_lib.Rng(tf.bitcast(tf.cast(seed, tf.int32), tf.int64))
    return tf.map_fn(
        lambda i: self.draw(key.at(i)), tf.range(tf.cast(n, tf.int64)),
        fn_output_signature=tf.float32)

  def draw(self, rng):
    """Draws one float32 sample [*batch, *event]; see `rng.Rng`."""
    raise TypeError(f'{self.name} has no samples')
