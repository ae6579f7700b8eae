"""The actor: a distribution over every kind of action at once."""

import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.heads import base


@registry.register('head', 'actor')
class ActorHead(base.MLPHead):
  """Predicts the flat action vector of `nets.inputs.ActionCodec`.

    h = MLP(features)                     {name: [..., F]} -> [..., units]
    class indices: OneHot((1 - unimix) softmax(Linear(h)) + unimix / classes)
    numbers: N(tanh(Linear(h)), stddev),
        stddev = (max - min) sigmoid(Linear(h) + 2) + min

  The result is a distribution of actions [..., A]. Class indices are one-hot
  pieces with a categorical each (MultiDiscrete entries may have unequal sizes),
  numbers are one bounded normal per entry in normalised units, where [-1, 1]
  are the environment's bounds. The pieces are independent given the features;
  log-probabilities and entropies [...] are in nats, summed over the pieces.

  Args:
    feature_spec: {name: size} of the core's features.
    action_spec: the action entries.
    layers: hidden layers.
    units: width.
    unimix: uniform share of categorical actions; 0 in the 2025 code.
    min_stddev: lower bound of the normal's standard deviation, in normalised
      units.
    max_stddev: upper bound.
    output_scale: factor on the output layers' initial weights.
    norm: see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy; distributions are float32.

  Raises:
    UserError: for a norm, activation or fan that there is not, or numbers out
      of range.

  Source: danijar/dreamerv3 e3f0224, outputs `categorical`, `bounded_normal`.
  """

  COMPONENT = 'head.actor'
  CONSTRUCTOR = ('feature_spec', 'action_spec', 'dtype')

  def __init__(
      self, *, feature_spec: dict[str, int], action_spec: types.Specs,
      layers: int = 3, units: int = 1024, unimix: float = 0.0,
      min_stddev: float = 0.1, max_stddev: float = 1.0,
      output_scale: float = 0.01, norm: str = 'rms', act: str = 'silu',
      use_bias: bool = True, fan: str = 'in', dtype: str = 'float32'):
    super().__init__(
        feature_spec=feature_spec, layers=layers, units=units,
        output_scale=output_scale, norm=norm, act=act, use_bias=use_bias,
        fan=fan, dtype=dtype)
    errors.check_within(
        0, 1, errors.named(self.COMPONENT, unimix=unimix))
    errors.check_least(0, errors.named(self.COMPONENT, min_stddev=min_stddev))
    errors.check_least(
        min_stddev, errors.named(self.COMPONENT, max_stddev=max_stddev))
    self.action_spec = types.freeze(action_spec)
    self.unimix = unimix
    self.stddevs = (min_stddev, max_stddev)
    # Class logits of an entry, or the means of its numbers.
    self.output_layers = [
        self.output(spec.encoded_size, f'output{i}')
        for i, (_, spec) in enumerate(self.action_spec)]
    self.stddev_layers = [
        None if spec.is_discrete else self.output(spec.size, f'stddev{i}')
        for i, (_, spec) in enumerate(self.action_spec)]

  def numbers(self, mean, stddev):
    """Returns the distribution of an entry of numbers [..., A]."""
    return distributions.BoundedNormal(mean, stddev, *self.stddevs)

  def call(self, features):
    hidden = self.hidden(features)
    pieces = []
    for (_, spec), output, stddev in zip(
        self.action_spec, self.output_layers, self.stddev_layers, strict=True):
      value = output(hidden)
      if spec.classes is not None:
        pieces += [
            distributions.OneHot(logits[..., None, :], self.unimix)
            for logits in tf.split(value, list(spec.classes), -1)]
      else:
        pieces.append(self.numbers(value, stddev(hidden)))
    return distributions.Concatenated(pieces)
