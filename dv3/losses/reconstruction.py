"""The reconstruction losses, one an observation key."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'reconstruction')
class ReconstructionLoss(tf.Module, interfaces.Loss):
  """Negative log-likelihood of each key that the decoder predicts, [B, T].

    reconstruction/<key> = -log p(obs[key] | features)

  Raises:
    UserError: when it is built beside a decoder that predicts nothing.

  Source: Hafner et al., Nature 2025, eq. 3.
  """

  def __init__(self):
    super().__init__(name='reconstruction')

  def build(self, parts):
    if not parts['decoder'].keys:
      raise errors.UserError(
          'loss.reconstruction has nothing to compare, since Agent.decoder '
          'predicts no observation; take it out of Agent.losses '
          '(variant/decoder_free.gin), or choose another decoder')

  def names(self, parts):
    return tuple(f'reconstruction/{key}' for key in parts['decoder'].keys)

  def convolves(self, parts):
    # [rows, columns, in, out]: a kernel of a convolution.
    return any(
        v.shape.rank == 4 for v in parts['decoder'].trainable_variables)

  def __call__(self, context):
    predictions = context.parts['decoder'](context.features)
    return {
        f'reconstruction/{key}': -dist.log_prob(context.obs[key])
        for key, dist in predictions.items()}, {}
