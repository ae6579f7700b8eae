"""What all heads share: a perceptron over the features, then outputs."""

from dv3 import interfaces
from dv3 import types
from dv3.nets import linear
from dv3.nets import mlp
from dv3.nets import part
from dv3.nets import picking


class MLPHead(part.Part, interfaces.Head):
  """A perceptron, and output layers that subclasses add with `output`.

    {name: [..., F]} -> MLP of all -> [..., units] -> outputs

  Args:
    feature_spec: {name: size} of the core's features.
    layers: hidden layers.
    units: width.
    output_scale: factor on the output layers' initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for a norm, activation or fan that there is not, or negative
      sizes.
  """

  COMPONENT = 'head'

  def __init__(
      self, *, feature_spec: dict[str, int], layers: int, units: int,
      output_scale: float, norm: str, act: str, use_bias: bool, fan: str,
      dtype: str):
    super().__init__(dtype=dtype)
    mlp.check_sizes(self.COMPONENT, layers, units)
    self.feature_sizes = tuple(feature_spec.items())
    self.input_size = sum(feature_spec.values())
    self.hidden_size = units if layers else self.input_size
    self.mlp = mlp.MLP(
        layers, units, norm=norm, act=act, use_bias=use_bias, fan=fan,
        dtype=dtype)
    self._options = {'scale': output_scale, 'fan': fan, 'dtype': dtype}
    self._outputs: list[linear.Output] = []

  def output(self, size: int, name: str) -> linear.Output:
    """Returns a new output layer, to be called on `hidden(features)`."""
    layer = linear.Output(size, name=name, **self._options)
    self._outputs.append(layer)
    return layer

  @part.once
  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    for layer in self._outputs:
      layer.build([None, self.hidden_size])
    super().build(input_shape)

  def hidden(self, features):
    """Returns the perceptron's result [..., U] for {name: [..., F]}."""
    return self.mlp([
        picking.pick(features[name], size.classes)
        if isinstance(size, types.OneHotSize) else features[name]
        for name, size in self.feature_sizes])
