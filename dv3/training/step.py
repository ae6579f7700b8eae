"""The inner loop: one compiled update on the device."""

import contextlib
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from dv3 import agent as agent_lib
from dv3 import distributions
from dv3 import errors
from dv3.nets import xla
from dv3.training import distribution
from dv3.training import mixed
from dv3.training import naming
from dv3.training import replicated
from dv3.training import warming


class Group(NamedTuple):
  """One optimizer and the parts of the agent that it trains.

  Attributes:
    name: shown in metrics.
    parts: names from `agent.PARTS`.
    optimizer: a Keras optimizer.
  """

  name: str
  parts: tuple[str, ...]
  optimizer: Any


class Update(tf.Module):
  """Updates the agent on one batch, on one or several replicas.

    update = Update(agent, strategy, optimizers, seed=0)
    losses, metrics, entries, per_step = update(batch)

  N replicas with batch B / N compute what one replica with batch B computes:
  gradients are averaged over replicas before clipping, random numbers belong
  to global examples. An update whose loss or gradient is not finite changes
  nothing and says so in the metric `finite`; the metric `bad_gradient` is then
  the path of the first variable whose gradient is not finite, or so large that
  its norm is not, for example 'core/gates/kernel', or None.

  Args:
    agent: the built agent; call under the strategy's scope.
    strategy: a `tf.distribute` strategy.
    optimizers: (name, parts, factory) of each group; ('*',) means all parts.
    seed: of the random numbers in training.
    rate: (factor, priming, priming updates) of every learning rate, as
      `ChainOptimizer.scale_rate` takes them; None leaves them as they are.
    jit_compile: whether XLA compiles loss and gradients: all of it, nothing,
      or, as 'mixed', all but convolutions. On several replicas that takes
      losses whose exchange lies between two parts (`Loss.across_replicas`);
      with others nothing is compiled.

  Raises:
    UserError: in the first call, if a part made variables after its `build()`.

  Attributes:
    compiled: True, False or 'mixed', what is done.
    gradients: function (batch, update, replica) -> (total, `Outputs`,
      gradients in the order of `trained`) of one replica.
  """

  def __init__(
      self, agent, strategy, optimizers, *, seed: int,
      rate: tuple | None = None, jit_compile: bool | str = False):
    super().__init__(name='update')
    self.agent = agent
    self.strategy = strategy
    self.seed = seed
    self.groups = make_groups(agent, optimizers, rate)
    self.updates = tf.Variable(
        0, dtype=tf.int64, trainable=False, name='updates',
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    # Not attributes that Module tracks: tf.Module would list them twice.
    self._groups_variables = [
        [v for part in group.parts for v in agent.variables_of(part)]
        for group in self.groups]
    self._trained = [v for group in self._groups_variables for v in group]
    self._built = {v.ref() for v in agent.variables}
    for group, variables in zip(
        self.groups, self._groups_variables, strict=True):
      group.optimizer.build(variables)
    check_compiler(jit_compile)
    several = strategy.num_replicas_in_sync > 1
    self.compiled = jit_compile
    # A TPU's strategy compiles the whole step itself.
    tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    if tpu or several and not agent.objective.separable:
      self.compiled = False
    self.gradients: Any = self.loss_and_gradients
    if self.compiled:
      parts = agent, self._trained, self._rng
      apart = replicated.ReplicatedGradients(*parts) if several else None
      if self.compiled == 'mixed':
        self.gradients = mixed.MixedGradients(*parts, apart and apart.rest)
      else:
        self.gradients = apart or xla.compiled(self.loss_and_gradients)
    elif not tpu and not several:
      # Traced once, however many updates are in a call.
      self.gradients = tf.function(self.loss_and_gradients, autograph=False)
    # On a CPU a branch costs less than to read, choose and write everything;
    # elsewhere the host would have to wait for its condition.
    self._branches = not several and distribution.on_cpu(strategy)
    self._step = tf.function(self._run, autograph=False)

  def __call__(self, batch):
    """Runs one update.

    Args:
      batch: {name: NumPy [B, ...]}, see `Agent.loss`.

    Returns:
      (losses, metrics: {name: float}, entries: {name: [B, T, ...]} and
      per_step [B, T] as NumPy arrays).
    """
    return self.run([batch])[0]

  def run(self, batches):
    """Runs as many updates as batches are given, in one call of the device.

    Args:
      batches: list, see `__call__`; always as many, or tracing starts anew.

    Returns:
      List of what `__call__` returns.
    """
    parts = [distribution.scatter(self.strategy, batch) for batch in batches]
    first = not self.trace_count
    with warming.returning_memory() if first else contextlib.nullcontext():
      results = self._step(parts)
    if first:
      self._check_variables(parts)
    return [self._finish(result) for result in results]

  def _check_variables(self, parts):
    """Raises a UserError where a variable is used that nothing trains.

    Keras makes variables where a layer is first called, which is after the
    optimizers got theirs, and does not know those of another Keras's layers.
    """
    late = [v for v in self.agent.variables if v.ref() not in self._built]
    if not late and self.strategy.num_replicas_in_sync == 1:
      known = {v.ref() for v in self._state()}
      late = [
          v for v in self._step.get_concrete_function(parts).trainable_variables
          if v.ref() not in known]
    if late:
      paths = naming.agent_paths(self.agent)
      names = sorted(
          paths.get(v.ref()) or str(v.name).partition(':')[0] for v in late)
      raise errors.UserError(
          f'{len(late)} variables would never be trained ({names[0]} is one): '
          'a part made them in its first call, or a layer of tf.keras (Keras '
          '3) did; make all variables in build(), with tf_keras')

  def _finish(self, result):
    scalars, arrays = result
    losses, metrics = distribution.first(self.strategy, scalars)
    bad = int(metrics['bad_gradient'])
    metrics['bad_gradient'] = naming.agent_paths(self.agent).get(
        self._trained[bad].ref()) if bad >= 0 else None
    entries, per_step = distribution.gather(self.strategy, arrays)
    return losses, metrics, entries, per_step

  def device_step(self, batch):
    """Runs one update on scattered batches; results stay on the device."""
    return self._step([batch])[0]

  def replica_step(self, batch):
    """The whole update of one replica, uncompiled, for `dv3-export`.

    Returns:
      ((losses, metrics), (entries, per_step)) as tensors.
    """
    return self._replica(batch, self.loss_and_gradients)

  def loss_and_gradients(self, batch, update, replica=0):
    """Computes loss and gradients of one replica, uncompiled.

    What `dv3-export` writes and `dv3-bench --profile` times.

    Args:
      batch: {name: [b, ...]}, the replica's part.
      update: int64 scalar, the updates before this one.
      replica: the replica's number.

    Returns:
      (total, `Outputs`, gradients in the order of `trained`).
    """
    with tf.GradientTape() as tape:
      total, outputs = self.agent.loss(
          batch, self._rng(batch, update, replica))
    gradients = tape.gradient(
        total, self._trained,
        unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return total, outputs, gradients

  @property
  def count(self) -> int:
    """The updates so far."""
    return int(self.updates.numpy())

  @property
  def trained(self) -> list[tf.Variable]:
    """The trained variables, in the order of their gradients."""
    return list(self._trained)

  @property
  def trace_count(self) -> int:
    """How often the update was traced; it stays where shapes do not change."""
    return self._step.experimental_get_tracing_count()

  def _run(self, batches):
    return [
        self.strategy.run(
            self._replica, args=(batch, self.gradients, self._branches))
        for batch in batches]

  def _replica(self, batch, gradients_of, branches=False):
    """The update of one replica, in replica context.

    What is not finite changes nothing: with `branches` it is not applied, else
    everything gets its old values again.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    state = self._changed_by_losses() if branches else self._state()
    before = [tf.identity(v) for v in state]
    total, outputs, gradients = gradients_of(
        batch, tf.identity(self.updates), _replica_id(context))
    scalars = (outputs.losses, {**outputs.metrics, 'loss': total})
    if replicas > 1:
      gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
      scalars = tf.nest.map_structure(
          lambda x: context.all_reduce(tf.distribute.ReduceOp.MEAN, x),
          scalars)
    halves = tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients])
    norm = tf.sqrt(2.0 * tf.reduce_sum(halves))
    finite = tf.math.is_finite(norm) & tf.math.is_finite(
        scalars[1]['loss'])
    if branches:
      tf.cond(finite, lambda: self._apply(gradients), lambda: None)
    else:
      self._apply(gradients)
    for variable, old in zip(state, before, strict=True):
      variable.assign(tf.where(finite, variable, old))
    self.updates.assign_add(1)
    metrics = {
        **scalars[1], 'gradient_norm': norm,
        'bad_gradient': _first_bad(halves),
        'finite': tf.cast(finite, tf.float32)}
    return (scalars[0], metrics), (outputs.entries, outputs.per_step)

  def _apply(self, gradients) -> None:
    """Moves the trained variables, then the slow copy."""
    start = 0
    for group, variables in zip(
        self.groups, self._groups_variables, strict=True):
      part = gradients[start: start + len(variables)]
      start += len(variables)
      group.optimizer.apply_gradients(
          list(zip(part, variables, strict=True)),
          skip_gradients_aggregation=True)
    self.agent.slow_copy.update()

  def _rng(self, batch, update, replica):
    """Returns the key of one replica's update."""
    size = tf.cast(tf.shape(batch['reward'])[0], tf.int64)
    rng = distributions.Rng(self.seed).fold('update').fold(update)
    return rng.starting(size * tf.cast(replica, tf.int64))

  def _state(self):
    """Returns every variable that a bad update must leave as it was."""
    return [
        *self.agent.variables,
        *(v for group in self.groups for v in group.optimizer.variables)]

  def _changed_by_losses(self):
    """Returns the variables of the state that `_apply` leaves alone."""
    applied = {v.ref() for v in (
        *self._trained, *getattr(self.agent.slow_copy, 'variables', ()))}
    return [v for v in self.agent.variables if v.ref() not in applied]


def make_update(
    agent, strategy, optimizers, *, seed: int,
    jit_compile: bool | str | None = None,
    rate: tuple | None = None) -> Update:
  """Makes the update of a built agent, under the strategy's scope.

  Args:
    agent: the built agent.
    strategy: a `tf.distribute` strategy.
    optimizers: see `Update`.
    seed: of the random numbers in training.
    jit_compile: see `Update`; None means all on accelerators, and on the CPU
      all where no images are observed, else 'mixed'.
    rate: see `Update`.
  """
  with strategy.scope():
    return Update(
        agent, strategy, optimizers, seed=seed, rate=rate,
        jit_compile=choose_compiler(jit_compile, agent, strategy))


def check_compiler(jit_compile) -> None:
  """Raises a UserError for a compile mode that there is not."""
  if jit_compile not in (True, False, 'mixed', None):
    raise errors.UserError(
        f"train.jit_compile is {jit_compile!r}; it is True, False, 'mixed' "
        '(XLA for all but convolutions) or None (what suits the device)')


def choose_compiler(jit_compile, agent, strategy) -> bool | str:
  """Returns True, False or 'mixed', also where None was given."""
  if jit_compile is not None:
    return jit_compile
  images = any(spec.is_image for _, spec in agent.obs_spec)
  return 'mixed' if images and distribution.on_cpu(strategy) else True


def _first_bad(squares):
  """Returns the index of the first of [n] that is not finite, or -1.0."""
  bad = ~tf.math.is_finite(squares)
  first = tf.cast(tf.argmax(tf.cast(bad, tf.int32)), tf.float32)
  return tf.where(tf.reduce_any(bad), first, -1.0)


def _replica_id(context):
  """Returns the replica's number as a tensor."""
  return tf.convert_to_tensor(context.replica_id_in_sync_group)


def make_groups(agent, optimizers, rate=None) -> list[Group]:
  """Builds optimizer groups; every part with variables belongs to one.

  Args:
    agent: the built agent.
    optimizers: (name, parts, factory) of each group.
    rate: arguments of `ChainOptimizer.scale_rate`, or None.

  Raises:
    UserError: for an unknown part, a part in two groups or in none, or an
      optimizer whose rate cannot be scaled.
  """
  groups: list[Group] = []
  for name, parts, factory in optimizers:
    parts = agent_lib.PARTS if tuple(parts) == ('*',) else tuple(parts)
    unknown = sorted(set(parts) - set(agent_lib.PARTS))
    if unknown:
      raise errors.UserError(
          f'optimizer group {name!r} names unknown parts {unknown}; there are '
          f'{list(agent_lib.PARTS)}')
    optimizer = factory()
    if rate is not None:
      if not hasattr(optimizer, 'scale_rate'):
        raise errors.UserError(
            f'train.scaling cannot change the learning rate of '
            f'{type(optimizer).__name__} in group {name!r}; use an optimizer '
            'of this library, or set its rate and leave scaling out')
      optimizer.scale_rate(*rate)
    groups.append(Group(name, parts, optimizer))
  names = [group.name for group in groups]
  if len(set(names)) < len(names):  # Checkpoints know groups by their names.
    raise errors.UserError(
        f'two optimizer groups of {names} have one name; rename one')
  counts = {part: sum(part in g.parts for g in groups)
            for part in agent_lib.PARTS}
  for part, count in counts.items():
    if count > 1:
      raise errors.UserError(
          f'{part!r} is in {count} optimizer groups; leave it in one')
    if not count and agent.variables_of(part):
      raise errors.UserError(
          f'{part!r} is in no optimizer group and would not train; add it to '
          'one of train.optimizers')
  return groups


