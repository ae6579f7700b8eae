"""The two-hot head of the 2023 form."""

from dv3 import distributions
from dv3 import errors
from dv3 import registry
from dv3.heads import base


@registry.register('head', 'symlog_twohot')
class SymlogTwoHotHead(base.MLPHead):
  """Predicts a scalar by a two-hot distribution over symlog values.

    logits = Linear(MLP(features))            {name: [..., F]} -> [..., bins]
    mean = symexp(sum softmax(logits) bins)
    log p(x) = sum twohot(symlog(x)) log softmax(logits)

  Bins are uniform in [-20, 20] of symlog space, and the mean is taken there.

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers; 1 to 5 by size.
    units: width.
    bins: number of bins, 255 published.
    output_scale: factor on the output layer's initial weights; 0 predicts
      0 at first.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy; logits are float32.

  Raises:
    UserError: for a norm, activation or fan that there is not, or numbers out
      of range.

  Source: Hafner et al. 2023 (arXiv v1), eq. 8 to 10; PyPI dreamerv3 1.5.0,
    `symlog_disc`.
  """

  COMPONENT = 'head.symlog_twohot'

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int = 5,
      units: int = 1024, bins: int = 255, output_scale: float = 0.0,
      norm: str = 'layer', act: str = 'silu', use_bias: bool = False,
      fan: str = 'average', dtype: str = 'float32'):
    super().__init__(
        feature_spec=feature_spec, layers=layers, units=units,
        output_scale=output_scale, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)
    errors.check_least(2, errors.named(self.COMPONENT, bins=bins))
    self.output_layer = self.output(bins, 'output')

  def call(self, features):
    return distributions.SymlogTwoHot(self.output_layer(self.hidden(features)))
