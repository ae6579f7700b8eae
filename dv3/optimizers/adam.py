"""Adam with clipping by the global norm."""

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3 import registry
from dv3.optimizers import base
from dv3.optimizers import clipping


@registry.register('optimizer', 'adam')
@keras.saving.register_keras_serializable(package='dv3')
class Adam(base.ChainOptimizer):
  """Global clipping, then Adam.

    g <- g min(1, clip / |all g|)     over all tensors of this optimizer
    m <- beta1 m + (1 - beta1) g;     nu <- beta2 nu + (1 - beta2) g^2
    direction = m / (1 - beta1^t) / (sqrt(nu / (1 - beta2^t)) + eps)
    p <- p - rate(t - 1) (direction + weight_decay p),    t = 1, 2, ...

  Gradients, parameters and slots are [...] float32, of any shape.

  Args:
    learning_rate: the rate after warm-up, or a Keras schedule.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    eps: added to the root, outside of it.
    clip: largest norm over all gradients; 0 for none.
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

  Source: Kingma and Ba 2015; the numbers are those of the world model in the
    PyPI package dreamerv3 1.5.0.
  """

  SLOTS = ('momentum', 'second_moment')

  def __init__(
      self, learning_rate: float = 1e-4, *, beta1: float = 0.9,
      beta2: float = 0.999, eps: float = 1e-8, clip: float = 1000.0,
      schedule: str = 'constant', warmup_updates: int = 0,
      anneal_updates: int = 0, points: tuple = (), weight_decay: float = 0.0,
      jit_compile: bool = False, name: str = 'Adam'):
    errors.check_within(0, 1, errors.named(
        'optimizer.adam', beta1=beta1, beta2=beta2), below=True)
    errors.check_least(0, errors.named(
        'optimizer.adam', clip=clip, eps=eps, weight_decay=weight_decay))
    super().__init__(
        name=name, learning_rate=learning_rate, schedule=schedule,
        warmup_updates=warmup_updates, anneal_updates=anneal_updates,
        points=points, weight_decay=weight_decay, jit_compile=jit_compile)
    self.beta1 = beta1
    self.beta2 = beta2
    self.eps = eps
    self.clip = clip

  def directions(self, gradients, parameters, slots, count):
    del parameters
    if self.clip:
      gradients = clipping.by_global_norm(gradients, self.clip)
    # Tensors, since each use of a Python number would be one more operation.
    share1 = tf.constant(1.0 - self.beta1)
    share2 = tf.constant(1.0 - self.beta2)
    unbias1 = 1.0 / (1.0 - tf.pow(self.beta1, count))
    unbias2 = 1.0 / (1.0 - tf.pow(self.beta2, count))
    eps = tf.constant(self.eps)
    momentums, seconds, directions = [], [], []
    for g, momentum, second in zip(
        gradients, slots['momentum'], slots['second_moment'], strict=True):
      momentum += share1 * (g - momentum)
      second += share2 * (tf.square(g) - second)
      momentums.append(momentum)
      seconds.append(second)
      directions.append(
          unbias1 * momentum / (tf.sqrt(unbias2 * second) + eps))
    return directions, {'momentum': momentums, 'second_moment': seconds}

  def get_config(self):
    return {
        **super().get_config(), 'beta1': self.beta1, 'beta2': self.beta2,
        'eps': self.eps, 'clip': self.clip}
