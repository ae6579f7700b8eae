"""Learning-rate schedules with warm-up, counted in updates.

  rate(s) = learning_rate * min(1, s / warmup_updates) * shape(s)

where s = 0 is the first update, so that with warm-up the first update changes
nothing. Each is a `keras.optimizers.schedules.LearningRateSchedule` that any
Keras optimizer takes and any Keras model saves. Optimizers of this library
make them from their own arguments, through `make`.
"""

import math

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3 import nearest


@keras.saving.register_keras_serializable(package='dv3')
class Constant(keras.optimizers.schedules.LearningRateSchedule):
  """The same rate for ever; also the base of the other schedules.

  Args:
    learning_rate: the rate after warm-up, at least 0.
    warmup_updates: updates until the full rate; 0 for none.
  """

  def __init__(self, learning_rate: float, warmup_updates: int = 0):
    super().__init__()
    if learning_rate < 0:
      raise errors.UserError(
          f'learning_rate is {learning_rate}; it must not be negative')
    if warmup_updates < 0:
      raise errors.UserError(
          f'warmup_updates is {warmup_updates}; write 0 for no warm-up')
    self.learning_rate = learning_rate
    self.warmup_updates = warmup_updates

  def __call__(self, step):
    """Returns the rate, a float32 scalar, of update `step` = 0, 1, ..."""
    step = tf.cast(step, tf.float32)
    rate = self.learning_rate * self.shape(step)
    if self.warmup_updates:
      rate *= tf.minimum(1.0, step / self.warmup_updates)
    return rate

  def shape(self, step):
    """Returns the factor of the rate, a float32 scalar, without warm-up.

    Args:
      step: [] float32, updates made so far.
    """
    return tf.ones_like(step)

  def get_config(self):
    return {
        'learning_rate': self.learning_rate,
        'warmup_updates': self.warmup_updates}


class _Annealed(Constant):
  """A schedule that ends at an update."""

  def __init__(
      self, learning_rate: float, anneal_updates: int,
      warmup_updates: int = 0):
    super().__init__(learning_rate, warmup_updates)
    if anneal_updates <= warmup_updates:
      raise errors.UserError(
          f'anneal_updates is {anneal_updates}, but a rate that falls needs '
          f'more updates than its warm-up of {warmup_updates}; set '
          'anneal_updates to the number of updates of the whole run')
    self.anneal_updates = anneal_updates

  def progress(self, step):
    """Returns 0 up to the end of the warm-up, 1 from `anneal_updates` on."""
    length = self.anneal_updates - self.warmup_updates
    return tf.clip_by_value((step - self.warmup_updates) / length, 0.0, 1.0)

  def get_config(self):
    return {**super().get_config(), 'anneal_updates': self.anneal_updates}


@keras.saving.register_keras_serializable(package='dv3')
class Linear(_Annealed):
  """Falls along a line from the end of the warm-up on, then stays.

    shape = final + (1 - final) * (1 - x)
    x = (s - warmup_updates) / (anneal_updates - warmup_updates), in [0, 1]

  Args:
    learning_rate: the rate after warm-up.
    anneal_updates: the update at which the rate is lowest, warm-up included.
    warmup_updates: updates until the full rate; 0 for none.
    final: the lowest rate, as a share of `learning_rate`.

  Source: danijar/dreamerv3 e3f0224.
  """

  def __init__(
      self, learning_rate: float, anneal_updates: int,
      warmup_updates: int = 0, final: float = 0.1):
    super().__init__(learning_rate, anneal_updates, warmup_updates)
    self.final = final

  def shape(self, step):
    return self.final + (1.0 - self.final) * (1.0 - self.progress(step))

  def get_config(self):
    return {**super().get_config(), 'final': self.final}


@keras.saving.register_keras_serializable(package='dv3')
class Cosine(_Annealed):
  """Falls along half a cosine from the end of the warm-up on, then stays.

    shape = final + (1 - final) * (1 + cos(pi x)) / 2,    x as in `Linear`

  Args:
    learning_rate: the rate after warm-up.
    anneal_updates: the update at which the rate is lowest, warm-up included.
    warmup_updates: updates until the full rate; 0 for none.
    final: the lowest rate, as a share of `learning_rate`. None does what the
      reference does: it means to end at a tenth of the rate, but gives the
      tenth of the rate itself where a share is expected, and so ends at
      0.1 * learning_rate**2, which is practically 0.

  Source: danijar/dreamerv3 e3f0224, where optax joins the schedules.
  """

  def __init__(
      self, learning_rate: float, anneal_updates: int,
      warmup_updates: int = 0, final: float | None = None):
    super().__init__(learning_rate, anneal_updates, warmup_updates)
    self.final = final

  def shape(self, step):
    final = 0.1 * self.learning_rate if self.final is None else self.final
    wave = 0.5 * (1.0 + tf.cos(math.pi * self.progress(step)))
    return final + (1.0 - final) * wave

  def get_config(self):
    return {**super().get_config(), 'final': self.final}


@keras.saving.register_keras_serializable(package='dv3')
class Piecewise(Constant):
  """Straight lines between given points, and constant after the last one.

    Piecewise(4e-5, [(0, 0.4), (8000, 0.4), (10000, 3.0)])

  RLlib's lists of absolute rates are the points of `learning_rate` 1.0.

  Args:
    learning_rate: the rate that the points are shares of.
    points: (update, share of `learning_rate`) from update 0 on, in order.
    warmup_updates: updates until the full share; 0 for none.
  """

  def __init__(
      self, learning_rate: float, points: tuple, warmup_updates: int = 0):
    super().__init__(learning_rate, warmup_updates)
    try:
      points = tuple((int(x), float(y)) for x, y in points)
    except (TypeError, ValueError):
      points = ()
    updates = [x for x, _ in points]
    if not points or updates[0] != 0 or sorted(set(updates)) != updates:
      raise errors.UserError(
          'points of a piecewise schedule are pairs (update, share of '
          'learning_rate), the first at update 0, each later than the one '
          f'before, for example ((0, 1.0), (10000, 0.1)); found {points}')
    self.points = points

  def shape(self, step):
    value = tf.constant(self.points[0][1])
    ends = zip(self.points, self.points[1:], strict=False)
    for (start, first), (stop, last) in ends:
      share = tf.clip_by_value((step - start) / (stop - start), 0.0, 1.0)
      value += (last - first) * share
    return value

  def get_config(self):
    return {**super().get_config(), 'points': self.points}


@keras.saving.register_keras_serializable(package='dv3')
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
  """Another schedule times a factor that rises from a lower one.

    factor(s) = priming                      for s below 0.8 priming_updates
    factor(s) = a line up to `factor`        until priming_updates

  Args:
    schedule: a schedule, or a number.
    factor: after the priming.
    priming: at first.
    priming_updates: updates until the full factor; 0 for none.
  """

  def __init__(
      self, schedule, factor: float, priming: float = 1.0,
      priming_updates: int = 0):
    super().__init__()
    self.schedule = schedule
    self.factor = factor
    self.priming = priming
    self.priming_updates = priming_updates

  def __call__(self, step):
    """Returns the rate, a float32 scalar, of update `step` = 0, 1, ..."""
    rate = self.schedule(step) if callable(self.schedule) else self.schedule
    factor = tf.constant(self.factor)
    if self.priming_updates:
      x = tf.cast(step, tf.float32) / self.priming_updates
      share = tf.clip_by_value((x - 0.8) / 0.2, 0.0, 1.0)
      factor = self.priming + (self.factor - self.priming) * share
    return factor * rate

  def get_config(self):
    schedule = self.schedule
    if callable(schedule):
      schedule = keras.optimizers.schedules.serialize(schedule)
    return {
        'schedule': schedule, 'factor': self.factor, 'priming': self.priming,
        'priming_updates': self.priming_updates}

  @classmethod
  def from_config(cls, config):
    schedule = config['schedule']
    if isinstance(schedule, dict):
      schedule = keras.optimizers.schedules.deserialize(schedule)
    return cls(**{**config, 'schedule': schedule})


NAMES = ('constant', 'linear', 'cosine', 'piecewise')


def make(
    schedule: str, learning_rate: float, *, warmup_updates: int = 0,
    anneal_updates: int = 0, points: tuple = ()) -> Constant:
  """Makes a schedule from the arguments that every optimizer has.

  Args:
    schedule: one of `NAMES`.
    learning_rate: the rate after warm-up.
    warmup_updates: updates until the full rate; 0 for none.
    anneal_updates: for 'linear' and 'cosine', the update of the lowest rate.
    points: for 'piecewise', see `Piecewise`.

  Raises:
    UserError: for another name, or numbers that do not go together.
  """
  if schedule == 'constant':
    return Constant(learning_rate, warmup_updates)
  if schedule == 'linear':
    return Linear(learning_rate, anneal_updates, warmup_updates)
  if schedule == 'cosine':
    return Cosine(learning_rate, anneal_updates, warmup_updates)
  if schedule == 'piecewise':
    return Piecewise(learning_rate, points, warmup_updates)
  raise errors.UserError(
      f'there is no schedule {schedule!r}; '
      f'{nearest.hint(schedule, NAMES, "schedules")}')
