"""The actor of the 2021 form."""

from dv3 import distributions
from dv3 import registry
from dv3 import types
from dv3.heads import actor


@registry.register('head', 'truncated_actor')
class TruncatedActorHead(actor.ActorHead):
  """The actor with truncated normals for numbers.

    h = MLP(features)                     {name: [..., F]} -> [..., units]
    numbers: N(tanh(Linear(h)), stddev) cut to [-1, 1],
        stddev = 2 sigmoid(Linear(h) / 2) + min_stddev

  Class indices are as in `head.actor`, without a uniform share.

  Args:
    feature_spec: {name: size} of the core's features.
    action_spec: the action entries.
    layers: hidden layers.
    units: width.
    min_stddev: lower bound of the normal's scale.
    output_scale: factor on the output layers' initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy; distributions are float32.

  Raises:
    UserError: for a norm, activation or fan that there is not, or numbers out
      of range.

  Source: danijar/dreamerv2 0216d33, `onehot` and `trunc_normal`.
  """

  COMPONENT = 'head.truncated_actor'

  def __init__(
      self, *, feature_spec: dict[str, int], action_spec: types.Specs,
      layers: int = 4, units: int = 400, min_stddev: float = 0.1,
      output_scale: float = 1.0, norm: str = 'none', act: str = 'elu',
      use_bias: bool = True, fan: str = 'average', dtype: str = 'float32'):
    # 2 sigmoid(raw / 2) + min_stddev is below that.
    super().__init__(
        feature_spec=feature_spec, action_spec=action_spec, layers=layers,
        units=units, min_stddev=min_stddev, max_stddev=min_stddev + 2.0,
        output_scale=output_scale, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)

  def numbers(self, mean, stddev):
    """Returns the distribution of an entry of numbers [..., A]."""
    return distributions.TruncatedNormal(mean, stddev, self.stddevs[0])
