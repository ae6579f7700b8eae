"""The vector decoder of the 2021 form."""

from dv3 import distributions
from dv3 import registry
from dv3 import types
from dv3.decoders import mlp


@registry.register('decoder', 'normal_mlp')
class NormalMLPDecoder(mlp.MLPDecoder):
  """Predicts numbers by unit normals, and class indices, from features.

    h = MLP(features)                        {name: [..., F]} -> [..., units]
    numbers: N(Linear(h), 1),   indices: categorical(Linear(h))

  Args:
    obs_spec: the entries to predict.
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for a norm, activation or fan that there is not, or negative
      sizes.

  Source: Hafner et al. 2021 (DreamerV2), eq. 1; danijar/dreamerv2 0216d33.
  """

  COMPONENT = 'decoder.normal_mlp'

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      layers: int = 4, units: int = 400, norm: str = 'none', act: str = 'elu',
      use_bias: bool = True, fan: str = 'average', dtype: str = 'float32'):
    super().__init__(
        obs_spec=obs_spec, feature_spec=feature_spec, layers=layers,
        units=units, symlog=False, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)

  def numbers(self, mean, event_rank):
    """Returns the distribution of an entry of numbers [..., *shape]."""
    return distributions.UnitNormal(mean, event_rank)
