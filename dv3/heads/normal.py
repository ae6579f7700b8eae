"""The unit Gaussian head of the 2021 form."""

import tensorflow as tf

from dv3 import distributions
from dv3 import registry
from dv3.heads import base


@registry.register('head', 'normal')
class NormalHead(base.MLPHead):
  """Predicts a scalar by a normal of standard deviation 1.

    N(Linear(MLP(features)), 1)               {name: [..., F]} -> [...]

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    output_scale: factor on the output layer's initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy; the mean is float32.

  Raises:
    UserError: for a norm, activation or fan that there is not, or numbers out
      of range.

  Source: Hafner et al. 2021 (DreamerV2), eq. 1 (reward) and eq. 5 (value, a
    squared error); danijar/dreamerv2 0216d33, `mse`.
  """

  COMPONENT = 'head.normal'

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int = 4,
      units: int = 400, output_scale: float = 1.0, norm: str = 'none',
      act: str = 'elu', use_bias: bool = True, fan: str = 'average',
      dtype: str = 'float32'):
    super().__init__(
        feature_spec=feature_spec, layers=layers, units=units,
        output_scale=output_scale, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)
    self.output_layer = self.output(1, 'output')

  def call(self, features):
    mean = self.output_layer(self.hidden(features))
    return distributions.UnitNormal(tf.squeeze(mean, -1), 0)
