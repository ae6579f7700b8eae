"""The actor: a distribution over every kind of action at once."""

import tensorflow as tf
import tf_keras as keras

from dv3 import distributions
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import mlp


@registry.register('head', 'actor')
class ActorHead(keras.layers.Layer, interfaces.Head):
  """Predicts the flat action vector of `nets.inputs.ActionCodec`.

  Class indices are one-hot pieces with a categorical each (MultiDiscrete
  entries may have unequal sizes), numbers are one bounded normal per entry in
  normalised units, where [-1, 1] are the environment's bounds. The pieces are
  independent given the features.

  Args:
    feature_spec: {name: size} of the core's features.
    action_spec: the action entries.
    layers: hidden layers.
    units: width.
    unimix: uniform share of categorical actions; 0 in the 2025 code.
    min_stddev: lower bound of the normal's standard deviation.
    max_stddev: upper bound.
    output_scale: factor on the output layers' initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    dtype: a Keras dtype policy; distributions are float32.

  Source: danijar/dreamerv3 e3f0224, outputs `categorical`, `bounded_normal`.
  """

  CONSTRUCTOR = ('feature_spec', 'action_spec', 'dtype')

  def __init__(
      self, *, feature_spec: dict[str, int], action_spec: types.Specs,
      layers: int = 3, units: int = 1024, unimix: float = 0.0,
      min_stddev: float = 0.1, max_stddev: float = 1.0,
      output_scale: float = 0.01, norm: str = 'rms', act: str = 'silu',
      dtype: str = 'float32'):
    super().__init__(autocast=False, dtype=dtype)
    self.input_size = sum(feature_spec.values())
    self.action_spec = types.freeze(action_spec)
    self.unimix = unimix
    self.stddevs = (min_stddev, max_stddev)
    self.units = units if layers else self.input_size
    self.mlp = mlp.MLP(layers, units, norm=norm, act=act, dtype=dtype)
    make = lambda size, name: linear.Linear(
        size, scale=output_scale, dtype=dtype, name=name)
    # Class logits of an entry, or the means of its numbers.
    self.output_layers = [
        make(spec.encoded_size, f'output{i}')
        for i, (_, spec) in enumerate(self.action_spec)]
    self.stddev_layers = [
        None if spec.is_discrete else make(spec.size, f'stddev{i}')
        for i, (_, spec) in enumerate(self.action_spec)]

  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    for layer in [*self.output_layers, *self.stddev_layers]:
      if layer is not None:
        layer.build([None, self.units])
    super().build(input_shape)

  def call(self, features):
    hidden = self.mlp(inputs.concat_features(features))
    pieces = []
    for (_, spec), output, stddev in zip(
        self.action_spec, self.output_layers, self.stddev_layers, strict=True):
      value = output(hidden)
      if spec.classes is not None:
        pieces += [
            distributions.OneHot(logits[..., None, :], self.unimix)
            for logits in tf.split(value, list(spec.classes), -1)]
      else:
        pieces.append(distributions.BoundedNormal(
            value, stddev(hidden), *self.stddevs))
    return distributions.Concatenated(pieces)
