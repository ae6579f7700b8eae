"""What the optimizers of this library share."""

import re

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3.optimizers import schedules

_KERNEL = re.compile(r'kernel(/replica_\d+)?(:\d+)?$')


class ChainOptimizer(keras.optimizers.Optimizer):
  """A Keras optimizer that sees all gradients at once.

    p <- p - rate(t - 1) (direction + weight_decay p)      t = 1, 2, ...

  A subclass names its slots in `SLOTS` and says in `directions` how gradients
  become directions. Works wherever Keras optimizers do: `model.compile`,
  `apply_gradients` in one's own loop, `get_config`, `tf.train.Checkpoint`,
  `MirroredStrategy` (made and built under its scope, applied in
  `strategy.run`). Gradients are summed over the replicas first unless
  `skip_gradients_aggregation` is given; then they must be equal on all of
  them, since each replica updates its own copies.

  A variable whose gradient is None keeps its value and its slots. Clipping,
  averaging and weight decay of Keras's own base class (`clipnorm`,
  `global_clipnorm`, `clipvalue`, `use_ema`) are not used and not accepted:
  they would act before the chain, per replica or at another place in it.

  Args:
    name: of the optimizer.
    learning_rate: the rate after warm-up; or a Keras schedule, which rules
      alone: the next four arguments are for numbers.
    schedule: one of `schedules.NAMES`.
    warmup_updates: updates over which the rate rises from 0; 0 for none. A
      number that is constant and without warm-up can be set while training
      (`optimizer.learning_rate = 1e-5`, or Keras's callbacks).
    anneal_updates: of 'linear' and 'cosine'.
    points: of 'piecewise'.
    weight_decay: decoupled, for variables whose name ends with 'kernel'.
    jit_compile: whether XLA compiles the update of all variables as one; on
      one replica only. Some seconds of start-up for fewer, larger kernels.
  """

  SLOTS: tuple[str, ...] = ()

  def __init__(
      self, *, name: str, learning_rate, schedule: str,
      warmup_updates: int, anneal_updates: int, points: tuple,
      weight_decay: float, jit_compile: bool):
    super().__init__(name=name, weight_decay=None, jit_compile=False)
    self.jit_compile = jit_compile
    self._decay = weight_decay
    self._arguments = self._no_dependency({
        'schedule': schedule, 'warmup_updates': warmup_updates,
        'anneal_updates': anneal_updates, 'points': tuple(points)})
    self._number = None
    if not isinstance(
        learning_rate, keras.optimizers.schedules.LearningRateSchedule):
      number = float(learning_rate)
      learning_rate = schedules.make(learning_rate=number, **self._arguments)
      self._number = number
      if schedule == 'constant' and not warmup_updates:
        learning_rate = number
    self._learning_rate = self._build_learning_rate(learning_rate)
    self._compiled = self._no_dependency(
        tf.function(self._update, autograph=False, jit_compile=True))

  def scale_rate(
      self, factor: float, priming: float, priming_updates: int) -> None:
    """Multiplies the learning rate, before `build`; see `schedules.Scaled`."""
    rate = self._learning_rate
    if isinstance(rate, tf.Variable):
      rate = self._number
    # With its variable, which Keras would make in the first update: a
    # checkpoint that is read before that must find it.
    self._learning_rate = self._build_learning_rate(
        schedules.Scaled(rate, factor, priming, priming_updates))

  def build(self, var_list):
    """Makes the slots of the variables, all zero.

    Raises:
      UserError: if a variable is not float32, or the optimizer was made
        outside of the scope of the strategy.
    """
    if getattr(self, '_built', False):
      return
    super().build(var_list)
    for variable in var_list:
      if variable.dtype != tf.float32:
        raise errors.UserError(
            f'{self.name} trains float32 variables, but {variable.name} is '
            f'{variable.dtype.name}; compute in {variable.dtype.name} with '
            'float32 variables (a mixed policy)')
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
      if not strategy.extended.variable_created_in_scope(self.iterations):
        raise errors.UserError(
            f'{self.name} was made outside of strategy.scope(), so that its '
            'counter would count every replica; make it under the scope')
    self._slots = {
        slot: [self.add_variable_from_reference(v, slot) for v in var_list]
        for slot in self.SLOTS}
    self._built = True

  def directions(self, gradients, parameters, slots, count):
    """Turns gradients into directions; tensors in, tensors out.

    Args:
      gradients: list of [...] float32, averaged over replicas.
      parameters: list of [...] float32, likewise.
      slots: {slot: list of [...] float32}, likewise.
      count: [] float32, this update's number t = 1, 2, ...

    Returns:
      (list of directions [...] float32, {slot: list of new values}).
    """
    raise NotImplementedError

  def apply_gradients(
      self, grads_and_vars, name=None, skip_gradients_aggregation=False):
    """Updates variables.

    Args:
      grads_and_vars: (gradient, variable) pairs; sparse gradients become
        dense, None leaves a variable as it is.
      name: of the operations.
      skip_gradients_aggregation: whether the gradients are the sums over all
        replicas already.

    Returns:
      The counter of updates.

    Raises:
      ValueError: if every gradient is None.
      RuntimeError: if called outside of `strategy.run` under a strategy.
    """
    pairs = list(grads_and_vars)
    context = tf.distribute.get_replica_context()
    if context is None:
      raise RuntimeError(
          f'{self.name}.apply_gradients works in replica context only; call '
          'it in a function given to strategy.run')
    with tf.name_scope(name or self.name):
      with tf.init_scope():
        self.build([variable for _, variable in pairs])
      pairs = [(g, v) for g, v in pairs if g is not None]
      if not pairs:
        raise ValueError(
            f'{self.name}: every gradient is None; does the loss depend on '
            'the variables, and was it computed under the tape?')
      replicas = context.num_replicas_in_sync
      if replicas > 1 and not skip_gradients_aggregation:
        pairs = self.aggregate_gradients(pairs)
      gradients = [tf.convert_to_tensor(g) for g, _ in pairs]
      variables = [v for _, v in pairs]
      indices = [self._index(v) for v in variables]
      slots = {
          slot: [of_all[i] for i in indices]
          for slot, of_all in self._slots.items()}
      self._compute_current_learning_rate()
      rate = tf.convert_to_tensor(self.learning_rate)
      count = tf.cast(self.iterations, tf.float32) + 1.0
      update = self._compiled if self.jit_compile and replicas == 1 else (
          self._update)
      update(gradients, variables, slots, rate, count)
      for variable in variables:
        if variable.constraint is not None:
          variable.assign(variable.constraint(variable))
      return self.iterations.assign_add(1)

  def _index(self, variable) -> int:
    """Returns a variable's place among those that the optimizer knows."""
    key = self._var_key(variable)
    if key not in self._index_dict:
      raise KeyError(
          f'{self.name} was built without {variable.name}; call build with '
          'every variable that it will train')
    return self._index_dict[key]

  def _update(self, gradients, variables, slots, rate, count):
    """Computes and assigns new values, in one graph for all variables."""
    read = lambda x: [tf.convert_to_tensor(v) for v in x]
    parameters = read(variables)
    directions, values = self.directions(
        gradients, parameters, {k: read(x) for k, x in slots.items()}, count)
    for slot, of_slot in slots.items():
      for variable, value in zip(of_slot, values[slot], strict=True):
        variable.assign(value)
    for variable, parameter, direction in zip(
        variables, parameters, directions, strict=True):
      if self._decay and _KERNEL.search(variable.name):
        direction += self._decay * parameter
      variable.assign_sub(rate * direction)

  def update_step(self, gradient, variable):
    """Keras's way to update one variable alone, which a chain has not."""
    raise NotImplementedError(
        f'{self.name} updates all variables at once; call apply_gradients')

  def get_config(self):
    rate = self._learning_rate
    if self._number is not None and not isinstance(rate, tf.Variable):
      rate = self._number
    return {
        'name': self.name,
        'learning_rate': self._serialize_hyperparameter(rate),
        **self._arguments, 'weight_decay': self._decay,
        'jit_compile': self.jit_compile}
