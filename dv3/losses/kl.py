"""The balanced KL between posterior and prior."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'kl')
class KLLoss(tf.Module, interfaces.Loss):
  """Dynamics and representation losses with free nats.

    dynamics = max(free_nats, KL[sg(posterior) || prior])
    representation = max(free_nats, KL[posterior || sg(prior)])

  The maximum is taken per step, after the sum over latent groups. Scales
  (1.0 and 0.1 in the 2025 form) belong to the balancer.

  Args:
    free_nats: threshold below which a KL has no gradient, in nats.

  Source: Hafner et al., Nature 2025, eq. 3.
  """

  NAMES = ('dynamics', 'representation')

  def __init__(self, *, free_nats: float = 1.0):
    super().__init__(name='kl')
    self.free_nats = free_nats

  def __call__(self, context):
    dynamics, representation = context.parts['core'].kl(context.latents)
    losses = {
        'dynamics': tf.maximum(self.free_nats, dynamics),
        'representation': tf.maximum(self.free_nats, representation)}
    return losses, {'kl_nats': tf.reduce_mean(dynamics)}
