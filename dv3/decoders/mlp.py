"""The vector decoder."""

import tensorflow as tf
import tf_keras as keras

from dv3 import distributions
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import mlp


@registry.register('decoder', 'mlp')
class MLPDecoder(keras.layers.Layer, interfaces.Decoder):
  """Predicts numbers and class indices from features.

    h = MLP(concat(stoch, deter))
    numbers: SquaredError(Linear(h), symlog),   indices: categorical(Linear(h))

  Args:
    obs_spec: the entries to predict.
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    symlog: whether targets of numbers pass through symlog.
    norm: see `nets.norms.make`.
    act: activation name.
    dtype: a Keras dtype policy.

  Source: danijar/dreamerv3 e3f0224, `Decoder` (which puts stoch first).
  """

  ORDER = ('stoch', 'deter')

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      layers: int = 3, units: int = 1024, symlog: bool = True,
      norm: str = 'rms', act: str = 'silu', dtype: str = 'float32'):
    super().__init__(autocast=False, dtype=dtype)
    self.obs_spec = types.freeze(obs_spec)
    self.keys = tuple(sorted(obs_spec))
    self.input_size = sum(feature_spec.values())
    self.symlog = symlog
    self.units = units if layers else self.input_size
    self.mlp = mlp.MLP(layers, units, norm=norm, act=act, dtype=dtype)
    self.outputs = [
        linear.Linear(spec.encoded_size, dtype=dtype, name=f'output{i}')
        for i, (_, spec) in enumerate(self.obs_spec)]

  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    for output in self.outputs:
      output.build([None, self.units])
    super().build(input_shape)

  def call(self, features):
    hidden = self.mlp(inputs.concat_features(features, self.ORDER))
    result = {}
    for (key, spec), output in zip(self.obs_spec, self.outputs, strict=True):
      value = output(hidden)
      if spec.is_discrete:
        result[key] = distributions.Indices(value, spec.shape, spec.classes)
      else:
        shape = [*linear.dynamic_shape(value)[:-1], *spec.shape]
        result[key] = distributions.SquaredError(
            tf.reshape(value, shape), len(spec.shape), symlog=self.symlog)
    return result
