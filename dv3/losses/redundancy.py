"""Latents that hold what the encoder saw, by correlation."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.nets import inputs
from dv3.nets import linear
from dv3.normalizers import statistics


@registry.register('loss', 'redundancy')
class RedundancyLoss(tf.Module, interfaces.Loss):
  """Correlates a projection of the features with the encoder's tokens.

    y = features W,  C[i, j] = correlation of y[i] and sg(tokens[j])
    redundancy = sum over i of (1 - C[i, i])^2
                 + share sum over i != j of C[i, j]^2

  with correlations over the steps of the whole batch, of all replicas; every
  step of [B, T] has the same value. Each token counts alike, however little it
  varies, so that latents take in small things long before a decoder draws
  them: the decoder ignores what latents do not hold yet, and gives no gradient
  to what it ignores. With a decoder it is an addition; without one it takes
  the decoder's place.

  Args:
    share: weight of what is off the diagonal.
    epsilon: added to standard deviations, in the tokens' units; what varies
      less counts less.

  Source: Zbontar et al. 2021 (Barlow Twins), eq. 1 and 2; between latents and
    tokens: Morihira et al. 2026 (R2-Dreamer), whose released code has
    share 5e-4.
  """

  NAMES = ('redundancy',)
  across_replicas = 'throughout'

  def __init__(self, *, share: float = 5e-4, epsilon: float = 1e-4):
    super().__init__(name='redundancy')
    self.share = share
    self.epsilon = epsilon
    self.projection = None

  def build(self, parts):
    # A bias would be lost in standardizing, and its gradient be mere rounding.
    self.projection = linear.Linear(
        parts['encoder'].token_size, use_bias=False, name='projection')
    features = parts['core'].feature_spec
    self.feature_names = tuple(features)
    self.projection.build([None, sum(features.values())])

  def __call__(self, context):
    if self.projection is None:
      raise errors.UserError(
          'loss.redundancy is not built; call its build() first')
    features = tf.cast(inputs.concat_features(
        context.features, self.feature_names), tf.float32)
    rows = lambda x: tf.reshape(x, [-1, x.shape[-1]])
    x = self._standardize(rows(self.projection(features)))
    tokens = tf.stop_gradient(tf.cast(context.tokens, tf.float32))
    y = self._standardize(rows(tokens))
    # A mean over the rows, so that replicas' means are the batch's.
    count = tf.cast(tf.shape(x)[0], tf.float32)
    correlation = statistics.global_mean(
        tf.matmul(x, y, transpose_a=True)[None] / count, 0)
    diagonal = tf.linalg.diag_part(correlation)
    value = tf.reduce_sum(tf.square(1.0 - diagonal)) + self.share * (
        tf.reduce_sum(tf.square(correlation))
        - tf.reduce_sum(tf.square(diagonal)))
    return {'redundancy': tf.fill(tf.shape(context.reward), value)}, {
        'token_correlation': tf.reduce_mean(diagonal)}

  def _standardize(self, x):
    """Returns x [N, E] with mean 0 and deviation 1 over all replicas' rows."""
    centred = x - statistics.global_mean(x, 0)
    variance = statistics.global_mean(tf.square(centred), 0)
    # The root's gradient at 0 is infinite.
    return centred / (tf.sqrt(variance + 1e-12) + self.epsilon)
