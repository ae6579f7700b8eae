"""Fixed loss scales."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry


def check_names(what: str, given, names) -> None:
  """Raises a UserError if a name that is given is no loss's.

  Args:
    what: the gin name of the argument, for the message.
    given: names that the user wrote.
    names: names of the losses there are.
  """
  unknown = sorted(set(given) - set(names))
  if unknown:
    raise errors.UserError(
        f'{what} names {", ".join(unknown)}, which no loss of this agent '
        f'returns; choose among {", ".join(sorted(names))}')


@registry.register('balancer', 'fixed')
class FixedBalancer(tf.Module, interfaces.Balancer):
  """Weighs losses by fixed scales.

    total = sum over losses of scale * mean        means [] -> total []

  Args:
    scales: {loss: factor}; 1 for losses that are not named.

  Raises:
    UserError: in `build`, for a scale that no loss has.

  Source: danijar/dreamerv3 e3f0224, `loss_scales`.
  """

  linear = True

  def __init__(self, *, scales: dict[str, float] | None = None):
    super().__init__(name='fixed')
    # A dict as an attribute would become a wrapper that checkpoints watch.
    self._scales = tuple(sorted((scales or {}).items()))

  def build(self, names) -> None:
    check_names('balancer.fixed.scales', dict(self._scales), names)

  def __call__(self, means):
    scales = dict(self._scales)
    return tf.add_n([scales.get(k, 1.0) * v for k, v in means.items()]), {}
