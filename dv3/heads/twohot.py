"""The two-hot head of rewards and values."""

from dv3 import distributions
from dv3 import errors
from dv3 import registry
from dv3.heads import base


@registry.register('head', 'twohot')
class TwoHotHead(base.MLPHead):
  """Predicts a scalar by a two-hot distribution over symexp-spaced bins.

    logits = Linear(MLP(features))            {name: [..., F]} -> [..., bins]
    bins = symexp(uniform in [-20, 20]),      mean = sum softmax(logits) bins
    log p(x) = sum twohot(x) log softmax(logits)

  Batch shape [...]; values in units of the reward, log-probabilities in nats.

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers; 1 for the reward, 3 for the critic.
    units: width.
    bins: number of bins, 255 published.
    output_scale: factor on the output layer's initial weights; 0 predicts
      exactly 0 at first.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy; logits are float32.

  Raises:
    UserError: for a norm, activation or fan that there is not, or numbers out
      of range.

  Source: Hafner et al., Nature 2025; danijar/dreamerv3 e3f0224,
  `symexp_twohot`.
  """

  COMPONENT = 'head.twohot'

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int = 3,
      units: int = 1024, bins: int = 255, output_scale: float = 0.0,
      norm: str = 'rms', act: str = 'silu', use_bias: bool = True,
      fan: str = 'in', dtype: str = 'float32'):
    super().__init__(
        feature_spec=feature_spec, layers=layers, units=units,
        output_scale=output_scale, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)
    errors.check_least(2, errors.named(self.COMPONENT, bins=bins))
    self.bins = tuple(distributions.symexp_bins(bins).tolist())
    self.output_layer = self.output(bins, 'output')

  def call(self, features):
    logits = self.output_layer(self.hidden(features))
    return distributions.TwoHot(logits, self.bins)
