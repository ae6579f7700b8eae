"""LaProp with adaptive gradient clipping and warm-up."""

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3 import registry
from dv3.optimizers import base
from dv3.optimizers import clipping


@registry.register('optimizer', 'laprop')
@keras.saving.register_keras_serializable(package='dv3')
class LaProp(base.ChainOptimizer):
  """Adaptive clipping, then RMS scaling, then momentum.

    g <- g / max(1, |g| / (agc max(1e-3, |p|)))        norms of whole tensors
    nu <- beta2 nu + (1 - beta2) g^2;  g <- g / (sqrt(nu / (1 - beta2^t)) + eps)
    m <- beta1 m + (1 - beta1) g;      direction = m / (1 - beta1^t)
    p <- p - rate(t - 1) (direction + weight_decay p),    t = 1, 2, ...

  Gradients, parameters and slots are [...] float32, of any shape. The rate
  rises linearly from 0 over `warmup_updates`: the first update changes nothing.
  Unlike in Adam, momentum comes after the scaling. A parameter that has had no
  gradient but zeros stays as it is.

    model.compile(optimizer=LaProp(learning_rate=4e-5), loss=...)

  Args:
    learning_rate: the rate after warm-up, or a Keras schedule.
    beta1: momentum; 0 for none.
    beta2: decay of the second moment.
    eps: added to the root of the second moment. Gradients around 1e-19, whose
      squares underflow, can be amplified some hundred fold; harmless.
    agc: largest gradient norm as a share of the parameter's norm; 0 for none.
    nesterov: whether to look one step ahead,
      direction = (beta1 m + (1 - beta1) g) / (1 - beta1^t).
    schedule: 'constant', 'linear', 'cosine' or 'piecewise', see `schedules`.
    warmup_updates: updates until the full rate; 0 for none.
    anneal_updates: of 'linear' and 'cosine': the update of the lowest rate.
    points: of 'piecewise': (update, share of learning_rate) pairs.
    weight_decay: decoupled, for variables whose name ends with 'kernel'.
    jit_compile: whether XLA compiles the update; on one replica only.
    name: of the optimizer.

  Raises:
    UserError: for a schedule that there is not, or numbers that do not go
      together; in `build`, for variables that are not float32.

  Source: Ziyin et al. 2020 (LaProp); Brock et al. 2021 (AGC);
    danijar/dreamerv3 e3f0224. Options of Keras's base class are not used, see
    `base.ChainOptimizer`.
  """

  SLOTS = ('momentum', 'second_moment')

  def __init__(
      self, learning_rate: float = 4e-5, *, beta1: float = 0.9,
      beta2: float = 0.999, eps: float = 1e-20, agc: float = 0.3,
      nesterov: bool = False, schedule: str = 'constant',
      warmup_updates: int = 1000, anneal_updates: int = 0,
      points: tuple = (), weight_decay: float = 0.0,
      jit_compile: bool = False, name: str = 'LaProp'):
    errors.check_within(0, 1, errors.named(
        'optimizer.laprop', beta1=beta1, beta2=beta2), below=True)
    errors.check_least(0, errors.named(
        'optimizer.laprop', agc=agc, eps=eps, weight_decay=weight_decay))
    super().__init__(
        name=name, learning_rate=learning_rate, schedule=schedule,
        warmup_updates=warmup_updates, anneal_updates=anneal_updates,
        points=points, weight_decay=weight_decay, jit_compile=jit_compile)
    self.beta1 = beta1
    self.beta2 = beta2
    self.eps = eps
    self.agc = agc
    self.nesterov = nesterov

  def directions(self, gradients, parameters, slots, count):
    if self.agc:
      gradients = clipping.adaptive(gradients, parameters, self.agc)
    # Tensors, since each use of a Python number would be one more operation.
    share1 = tf.constant(1.0 - self.beta1)
    share2 = tf.constant(1.0 - self.beta2)
    unbias1 = 1.0 / (1.0 - tf.pow(self.beta1, count))
    unbias2 = 1.0 / (1.0 - tf.pow(self.beta2, count))
    eps = tf.constant(self.eps)
    seconds, momentums, directions = [], [], []
    for g, second, momentum in zip(
        gradients, slots['second_moment'], slots['momentum'], strict=True):
      second += share2 * (tf.square(g) - second)
      g /= tf.sqrt(unbias2 * second) + eps
      momentum += share1 * (g - momentum)
      ahead = momentum
      if self.nesterov:
        ahead += share1 * (g - momentum)
      seconds.append(second)
      momentums.append(momentum)
      directions.append(unbias1 * ahead)
    return directions, {'second_moment': seconds, 'momentum': momentums}

  def get_config(self):
    return {
        **super().get_config(), 'beta1': self.beta1, 'beta2': self.beta2,
        'eps': self.eps, 'agc': self.agc, 'nesterov': self.nesterov}
