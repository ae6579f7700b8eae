"""The Bernoulli head of the continue flag."""

import tensorflow as tf
import tf_keras as keras

from dv3 import distributions
from dv3 import interfaces
from dv3 import registry
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import mlp


@registry.register('head', 'binary')
class BinaryHead(keras.layers.Layer, interfaces.Head):
  """Predicts a probability: Binary(Linear(MLP(features))).

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    output_scale: factor on the output layer's initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    dtype: a Keras dtype policy; the logit is float32.

  Source: danijar/dreamerv3 e3f0224, output `binary`.
  """

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int = 1,
      units: int = 1024, output_scale: float = 1.0, norm: str = 'rms',
      act: str = 'silu', dtype: str = 'float32'):
    super().__init__(autocast=False, dtype=dtype)
    self.input_size = sum(feature_spec.values())
    self.units = units if layers else self.input_size
    self.mlp = mlp.MLP(layers, units, norm=norm, act=act, dtype=dtype)
    self.output_layer = linear.Linear(1, scale=output_scale, dtype=dtype)

  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    self.output_layer.build([None, self.units])
    super().build(input_shape)

  def call(self, features):
    hidden = self.mlp(inputs.concat_features(features))
    logit = tf.squeeze(self.output_layer(hidden), -1)
    return distributions.Binary(logit)
