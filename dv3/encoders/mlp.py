"""The vector encoder."""

from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import inputs
from dv3.nets import mlp
from dv3.nets import part


@registry.register('encoder', 'mlp')
class MLPEncoder(part.Part, interfaces.Encoder):
  """Encodes numbers and class indices by a multi-layer perceptron.

    tokens = MLP(concat(symlog(numbers), one_hot(indices)))   [..., units]

  Entries are concatenated in alphabetical order of their keys.

  Args:
    obs_spec: the entries to encode; images are taken as numbers here.
    layers: hidden layers.
    units: width, and the token size.
    symlog: whether numbers pass through symlog.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for a norm, activation or fan that there is not, or negative
      sizes.

  Source: danijar/dreamerv3 e3f0224, `Encoder`; Hafner et al., Nature 2025.
  """

  COMPONENT = 'encoder.mlp'

  def __init__(
      self, *, obs_spec: types.Specs, layers: int = 3, units: int = 1024,
      symlog: bool = True, norm: str = 'rms', act: str = 'silu',
      use_bias: bool = True, fan: str = 'in', dtype: str = 'float32'):
    super().__init__(dtype=dtype)
    mlp.check_sizes(self.COMPONENT, layers, units)
    self.obs_spec = types.freeze(obs_spec)
    self.symlog = symlog
    self.mlp = mlp.MLP(
        layers, units, norm=norm, act=act, use_bias=use_bias, fan=fan,
        dtype=dtype)
    self.token_size = units if layers else self.input_size

  @property
  def input_size(self) -> int:
    """The length of the concatenated entries."""
    return sum(spec.encoded_size for _, spec in self.obs_spec)

  @part.once
  def build(self, input_shape=None):
    self.mlp.build([None, self.input_size])
    super().build(input_shape)

  def call(self, obs):
    return self.mlp(inputs.vectors(obs, dict(self.obs_spec), self.symlog))
