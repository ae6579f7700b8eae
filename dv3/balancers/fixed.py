"""Fixed loss scales."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry


@registry.register('balancer', 'fixed')
class FixedBalancer(tf.Module, interfaces.Balancer):
  """total = sum over losses of scale * mean."""

  def __init__(self, *, scales: dict[str, float] | None = None):
    super().__init__(name='fixed')
    self._scales = tuple(sorted((scales or {}).items()))

  def build(self, names) -> None:
    unknown = sorted(set(dict(self._scales)) - set(names))
    if unknown:
      raise errors.UserError(
          f'balancer.fixed.scales names {unknown}, which no loss returns; '
          f'there are {sorted(names)}')

  def __call__(self, means):
    scales = dict(self._scales)
    return tf.add_n([scales.get(k, 1.0) * v for k, v in means.items()]), {}
