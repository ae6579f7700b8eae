"""The Bernoulli head of the continue flag."""

import tensorflow as tf

from dv3 import distributions
from dv3 import registry
from dv3.heads import base


@registry.register('head', 'binary')
class BinaryHead(base.MLPHead):
  """Predicts a probability.

    p = sigmoid(Linear(MLP(features)))        {name: [..., F]} -> [...]

  Targets may lie between 0 and 1; log-probabilities are in nats.

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    output_scale: factor on the output layer's initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy; the logit is float32.

  Raises:
    UserError: for a norm, activation or fan that there is not, or numbers out
      of range.

  Source: danijar/dreamerv3 e3f0224, output `binary`.
  """

  COMPONENT = 'head.binary'

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int = 1,
      units: int = 1024, output_scale: float = 1.0, norm: str = 'rms',
      act: str = 'silu', use_bias: bool = True, fan: str = 'in',
      dtype: str = 'float32'):
    super().__init__(
        feature_spec=feature_spec, layers=layers, units=units,
        output_scale=output_scale, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)
    self.output_layer = self.output(1, 'output')

  def call(self, features):
    logit = self.output_layer(self.hidden(features))
    return distributions.Binary(tf.squeeze(logit, -1))
