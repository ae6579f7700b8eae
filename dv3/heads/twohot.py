"""The two-hot head of rewards and values."""

import tf_keras as keras

from dv3 import distributions
from dv3 import interfaces
from dv3 import registry
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import mlp


@registry.register('head', 'twohot')
class TwoHotHead(keras.layers.Layer, interfaces.Head):
  """Predicts a scalar by a two-hot distribution over symexp-spaced bins.

    logits = Linear(MLP(features)),   TwoHot(logits, bins)

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers; 1 for the reward, 3 for the critic.
    units: width.
    bins: number of bins, 255 published.
    output_scale: factor on the output layer's initial weights; 0 predicts
      exactly 0 at first.
    norm: see `nets.norms.make`.
    act: activation name.
    dtype: a Keras dtype policy; logits are float32.

  Source: Hafner et al., Nature 2025; danijar/dreamerv3 e3f0224,
  `symexp_twohot`.
  """

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int = 3,
      units: int = 1024, bins: int = 255, output_scale: float = 0.0,
      norm: str = 'rms', act: str = 'silu', dtype: str = 'float32'):
    super().__init__(autocast=False, dtype=dtype)
    self.input_size = sum(feature_spec.values())
    self.bins = tuple(distributions.symexp_bins(bins).tolist())
    self.units = units if layers else self.input_size
    self.mlp = mlp.MLP(layers, units, norm=norm, act=act, dtype=dtype)
    self.output_layer = linear.Linear(bins, scale=output_scale, dtype=dtype)

  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    self.output_layer.build([None, self.units])
    super().build(input_shape)

  def call(self, features):
    hidden = self.mlp(inputs.concat_features(features))
    return distributions.TwoHot(self.output_layer(hidden), self.bins)
