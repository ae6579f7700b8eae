"""The continue loss."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'continue')
class ContinueLoss(tf.Module, interfaces.Loss):
  """The continue head's negative log-likelihood, [B, T] in nats.

    continue = -log p(target | features)
    target = (1 - is_terminal) * (discount, if it is part of the target)

  Source: Hafner et al., Nature 2025, eq. 3; danijar/dreamerv3 e3f0224,
    `contdisc`.
  """

  NAMES = ('continue',)

  def __init__(self):
    super().__init__(name='continue')

  def __call__(self, context):
    target = 1.0 - tf.cast(context.is_terminal, tf.float32)
    if context.discounted_continue:
      target *= context.discount
    dist = context.parts['continue'](context.features)
    return {'continue': -dist.log_prob(target)}, {}
