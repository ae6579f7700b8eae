"""The vector decoder."""

import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import mlp
from dv3.nets import part


@registry.register('decoder', 'mlp')
class MLPDecoder(part.Part, interfaces.Decoder):
  """Predicts numbers and class indices from features.

    h = MLP(concat(features))                {name: [..., F]} -> [..., units]
    numbers: SquaredError(Linear(h), symlog),   indices: categorical(Linear(h))

  Each key's distribution has batch [...]; the mean of numbers is in symlog
  space, its log-probability minus the squared error summed over the entry.
  Features `deter` and `stoch` alone come as stoch, deter; others in the order
  of `feature_spec`.

  Args:
    obs_spec: the entries to predict.
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    symlog: whether targets of numbers pass through symlog.
    tolerance: squared errors below it count as 0; 1e-8 in the 2023 code.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for a norm, activation or fan that there is not, or negative
      sizes.

  Source: danijar/dreamerv3 e3f0224, `Decoder` (which puts stoch first).
  """

  COMPONENT = 'decoder.mlp'
  ORDER = ('stoch', 'deter')

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      layers: int = 3, units: int = 1024, symlog: bool = True,
      tolerance: float = 0.0, norm: str = 'rms', act: str = 'silu',
      use_bias: bool = True, fan: str = 'in', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    mlp.check_sizes(self.COMPONENT, layers, units)
    errors.check_least(0, errors.named(self.COMPONENT, tolerance=tolerance))
    self.obs_spec = types.freeze(obs_spec)
    self.keys = tuple(sorted(obs_spec))
    self.feature_names = self.ORDER if (
        set(feature_spec) == set(self.ORDER)) else tuple(feature_spec)
    self.input_size = sum(feature_spec.values())
    self.symlog = symlog
    self.tolerance = tolerance
    self.units = units if layers else self.input_size
    self.mlp = mlp.MLP(
        layers, units, norm=norm, act=act, use_bias=use_bias, fan=fan,
        dtype=dtype)
    self.outputs = [
        linear.Linear(
            spec.encoded_size, fan=fan, dtype=dtype, name=f'output{i}')
        for i, (_, spec) in enumerate(self.obs_spec)]

  @part.once
  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    for output in self.outputs:
      output.build([None, self.units])
    super().build(input_shape)

  def call(self, features):
    hidden = self.mlp(inputs.concat_features(features, self.feature_names))
    result = {}
    for (key, spec), output in zip(self.obs_spec, self.outputs, strict=True):
      value = output(hidden)
      if spec.is_discrete:
        result[key] = distributions.Indices(value, spec.shape, spec.classes)
      else:
        shape = [*linear.dynamic_shape(value)[:-1], *spec.shape]
        result[key] = self.numbers(tf.reshape(value, shape), len(spec.shape))
    return result

  def numbers(self, mean, event_rank):
    """Returns the distribution of an entry of numbers [..., *shape]."""
    return distributions.SquaredError(
        mean, event_rank, self.symlog, self.tolerance)
