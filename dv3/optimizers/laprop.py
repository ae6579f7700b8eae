"""LaProp with adaptive gradient clipping and warm-up."""

import tensorflow as tf
import tf_keras as keras

from dv3 import registry


@registry.register('optimizer', 'laprop')
class LaProp(keras.optimizers.Optimizer):
  """Adaptive clipping, then RMS scaling, then momentum.

    g <- g / max(1, |g| / (agc max(1e-3, |p|)))        norms of whole tensors
    nu <- beta2 nu + (1 - beta2) g^2;  g <- g / (sqrt(nu / (1 - beta2^t)) + eps)
    m <- beta1 m + (1 - beta1) g;      p <- p - rate(t - 1) m / (1 - beta1^t)

  The rate rises linearly from 0 over `warmup_updates`: the first update
  changes nothing.

  Args:
    learning_rate: the rate after warm-up.
    beta1: momentum.
    beta2: decay of the second moment.
    eps: added to the root of the second moment.
    agc: largest gradient norm as a share of the parameter's norm; 0 for none.
    warmup_updates: updates until the full rate; 0 for none.
    name: of the optimizer.

  Source: Ziyin et al. 2020 (LaProp); Brock et al. 2021 (AGC);
    danijar/dreamerv3 e3f0224.
  """

  def __init__(
      self, learning_rate: float = 4e-5, beta1: float = 0.9,
      beta2: float = 0.999, eps: float = 1e-20, agc: float = 0.3,
      warmup_updates: int = 1000, name: str = 'LaProp', **kwargs):
    kwargs.setdefault('jit_compile', False)
    super().__init__(name=name, **kwargs)
    self._learning_rate = self._build_learning_rate(learning_rate)
    self.beta1 = beta1
    self.beta2 = beta2
    self.eps = eps
    self.agc = agc
    self.warmup_updates = warmup_updates

  def build(self, var_list):
    super().build(var_list)
    if getattr(self, '_built', False):
      return
    self._momentums = [
        self.add_variable_from_reference(v, 'momentum') for v in var_list]
    self._seconds = [
        self.add_variable_from_reference(v, 'second') for v in var_list]
    self._built = True

  def update_step(self, gradient, variable):
    index = self._index_dict[self._var_key(variable)]
    momentum, second = self._momentums[index], self._seconds[index]
    step = tf.cast(self.iterations, tf.float32)
    rate = tf.convert_to_tensor(self.learning_rate, tf.float32)
    if self.warmup_updates:
      rate *= tf.minimum(1.0, step / self.warmup_updates)
    if self.agc:
      limit = self.agc * tf.maximum(1e-3, tf.norm(variable))
      gradient /= tf.maximum(1.0, tf.norm(gradient) / limit)
    count = step + 1.0
    second.assign_add((tf.square(gradient) - second) * (1.0 - self.beta2))
    root = tf.sqrt(second / (1.0 - tf.pow(self.beta2, count)))
    scaled = gradient / (root + self.eps)
    momentum.assign_add((scaled - momentum) * (1.0 - self.beta1))
    variable.assign_sub(
        rate * momentum / (1.0 - tf.pow(self.beta1, count)))

  def get_config(self):
    return {
        **super().get_config(),
        'learning_rate': self._serialize_hyperparameter(self._learning_rate),
        'beta1': self.beta1, 'beta2': self.beta2, 'eps': self.eps,
        'agc': self.agc, 'warmup_updates': self.warmup_updates}
