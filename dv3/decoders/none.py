"""No decoder."""

from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import part


@registry.register('decoder', 'none')
class NoDecoder(part.Part, interfaces.Decoder):
  """Predicts no observation and has no variables.

    {} of features                           {name: [..., F]} -> {}

  For world models that learn what to remember from another loss, such as
  `loss.redundancy`; `loss.reconstruction` refuses it. There are no open-loop
  videos either.

  Args:
    obs_spec: what another decoder would predict.
    feature_spec: {name: size} of the core's features.
    dtype: a Keras dtype policy.

  Source: Morihira et al. 2026 (R2-Dreamer), which leaves the decoder out.
  """

  def __init__(
      self, *, obs_spec: types.Specs, feature_spec: dict[str, int],
      dtype: str = 'float32'):
    del obs_spec, feature_spec
    super().__init__(dtype=dtype)
    self.keys = ()

  @part.once
  def build(self, input_shape=None):
    super().build(input_shape)

  def call(self, features):
    del features
    return {}
