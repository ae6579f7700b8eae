"""The balanced KL between posterior and prior."""

import tensorflow as tf

from dv3 import interfaces
from dv3 import registry
from dv3.normalizers import statistics


@registry.register('loss', 'kl')
class KLLoss(tf.Module, interfaces.Loss):
  """Dynamics and representation losses with free nats.

    dynamics = max(free_nats, KL[sg(posterior) || prior])
    representation = max(free_nats, KL[posterior || sg(prior)])

  Both are [B, T] in nats. The maximum is taken per step, after the sum over
  latent groups. Scales (1.0 and 0.1 in the 2025 form) belong to the balancer.

  The 2021 form's balancing, alpha KL[sg(posterior) || prior] +
  (1 - alpha) KL[posterior || sg(prior)], is the scales alpha and 1 - alpha.

  Args:
    free_nats: threshold below which a KL has no gradient, in nats.
    free_average: whether the threshold holds for the mean over the batch (of
      all replicas) in place of every step, as in the 2021 form.

  Source: Hafner et al., Nature 2025, eq. 3; Hafner et al. 2021 (DreamerV2),
    eq. 2 and algorithm 2.
  """

  NAMES = ('dynamics', 'representation')

  def __init__(self, *, free_nats: float = 1.0, free_average: bool = False):
    super().__init__(name='kl')
    self.free_nats = free_nats
    self.free_average = free_average

  @property
  def across_replicas(self) -> str:
    """Only the average over the whole batch spans replicas."""
    return 'throughout' if self.free_average else 'never'

  def __call__(self, context):
    dynamics, representation = context.parts['core'].kl(context.latents)
    return {
        'dynamics': self._free(dynamics),
        'representation': self._free(representation),
    }, {'kl_nats': tf.reduce_mean(dynamics)}

  def _free(self, kl):
    """Returns max(free_nats, kl), per step or on the average."""
    if not self.free_average:
      return tf.maximum(self.free_nats, kl)
    mean = statistics.global_mean(tf.stop_gradient(kl))
    return tf.where(mean > self.free_nats, kl, self.free_nats)
