"""What an agent trains on: its losses, collected, averaged and weighed."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from dv3 import errors


class Outputs(NamedTuple):
  """What a training loss returns besides the total.

  Attributes:
    losses: {name: scalar float32}, unweighted means.
    metrics: {name: scalar}.
    entries: {name: [B, T, ...]}, new latents for replay.
    per_step: [B, T] float32, the model's unweighted loss of each step, for
      prioritised samplers; a loss of fewer steps adds nothing to the others.
  """

  losses: dict[str, tf.Tensor]
  metrics: dict[str, tf.Tensor]
  entries: dict[str, tf.Tensor]
  per_step: tf.Tensor


class Convolved(NamedTuple):
  """A loss that was computed before the others; see `Objective.total`.

  Attributes:
    loss: [B, T'] float32.
    mean: scalar, its mean.
    slopes: gradients of the mean with respect to the features, in their order,
      [B, T, F] each.
  """

  loss: tf.Tensor
  mean: tf.Tensor
  slopes: list[tf.Tensor]


class Objective:
  """The training loss of an agent, whole or in parts.

  Parts are for updates that are not compiled in one piece: losses that run
  convolutions may be computed before the others (`training.mixed`), losses that
  await other replicas after them (`training.replicated`).

  Args:
    agent: the agent whose parts and losses it uses, once that is built.
  """

  def __init__(self, agent):
    self._agent = agent

  def total(self, batch, rng, *, tokens=None, convolved=None, awaited=None):
    """Computes the training loss of one batch.

    Args:
      batch: see `Agent.loss`.
      rng: key of this update.
      tokens: what `Agent.encode(batch)` returns, if it is known.
      convolved: {name: `Convolved`} of `convolutional_losses`, if they are
        known; None computes them here.
      awaited: {name: scalar} in place of the means of the losses that
        `awaiting` lists; None computes them here.

    Returns:
      (total scalar float32, `Outputs`, the `losses.Context`).
    """
    agent = self._agent
    context = agent.observe(batch, rng, tokens)
    losses, metrics = {}, {}
    without = [] if convolved is None else self._convolving()
    self.collect('model', context, losses, metrics, without)
    model = [*losses.values(), *(x.loss for x in (convolved or {}).values())]
    per_step = _sum_of_steps(model, context.reward)
    if any(loss.PHASE == 'behavior' for loss in agent.losses):
      context = self._behave(
          context, rng, losses, metrics,
          [] if awaited is None else self.awaiting)
    means = {name: mean(x) for name, x in losses.items()}
    for name, value in (awaited or {}).items():
      if name in means:
        raise _twice(name)
      means[name] = value
    for name, value in (convolved or {}).items():
      means[name] = value.mean + tf.add_n([
          tf.reduce_sum(slope * (x - tf.stop_gradient(x)))
          for x, slope in zip(
              context.features.values(), value.slopes, strict=True)])
    total, weighing = agent.balancer(means)
    if total.shape.rank:
      raise errors.UserError(
          f'{type(agent.balancer).__name__} returned a total of shape '
          f'{tuple(total.shape)}; a balancer weighs means into one scalar')
    metrics.update(weighing)
    entries = agent.core.replay_entry(context.latents)
    return total, Outputs(
        losses=means, metrics=metrics,
        entries={f'latent/{k}': tf.stop_gradient(x) if x.dtype.is_floating
                 else x for k, x in entries.items()},
        per_step=tf.stop_gradient(per_step)), context

  def convolutional_losses(self, context):
    """Computes the losses that run convolutions, alone.

    Args:
      context: a `losses.Context`, without a dream.

    Returns:
      ({name: [B, T'] float32}, {metric: scalar}).
    """
    losses, metrics = {}, {}
    for loss in self._convolving():
      self._add(loss, context, losses, metrics)
    return losses, metrics

  def _convolving(self):
    """Returns the losses that run convolutions."""
    agent = self._agent
    return [
        loss for loss in agent.losses
        if loss.PHASE == 'model' and loss.convolves(agent.parts)]

  @property
  def convolves_by_example(self) -> bool:
    """Whether sequences may take turns in the losses that run convolutions.

    They may where nothing is exchanged with other replicas, either.
    """
    return all(loss.across_replicas == 'never' for loss in self._convolving())

  @property
  def awaiting(self) -> list[Any]:
    """The losses that await statistics of all replicas."""
    return [
        loss for loss in self._agent.losses
        if loss.across_replicas == 'statistics']

  @property
  def separable(self) -> bool:
    """Whether all that spans replicas lies between two parts of the loss."""
    agent = self._agent
    return (
        not agent.imagination_gradient and agent.balancer.linear
        and all(map(_separable, agent.losses)))

  def statistics(self, context):
    """Returns what each of the losses that `awaiting` lists needs."""
    return [loss.statistics(context) for loss in self.awaiting]

  def awaited_losses(self, context, statistics):
    """Computes the losses that `awaiting` lists.

    Args:
      context: a `losses.Context` with a dream.
      statistics: what `statistics` returned.

    Returns:
      ({name: [B, T'] float32}, {metric: scalar}).
    """
    losses, metrics = {}, {}
    for loss, known in zip(self.awaiting, statistics, strict=True):
      values, listed = {}, loss.names(self._agent.parts)
      self._add(loss, context._replace(statistics=known), values, metrics)
      if set(values) != set(listed):
        raise errors.UserError(
            f'{loss.name} returns the losses {sorted(values)}, while its NAMES '
            f'or names() list {sorted(listed)}; make them agree')
      losses.update(values)
    return losses, metrics

  def _behave(self, context, rng, losses, metrics, without=()):
    """Dreams, adds the losses on dreams and returns the context with them."""
    agent = self._agent
    if not agent.imagination_gradient:
      context = context._replace(imagined=agent.imagine(context, rng))
      self.collect('behavior', context, losses, metrics, without)
      return context
    actor = agent.variables_of('actor')
    with tf.GradientTape(
        persistent=True, watch_accessed_variables=False) as tape:
      tape.watch(actor)
      context = context._replace(imagined=agent.imagine(context, rng))
      values = {}
      self.collect('behavior', context, values, metrics, without)
      through = {
          name: mean(values[name]) for loss in agent.losses
          if loss.imagination_gradient for name in loss.names(agent.parts)}
    for name, average in through.items():
      # A path through dynamics, reward and critic must train none of them, so
      # the loss becomes a constant that has the actor's gradient alone.
      gradients = tape.gradient(
          average, actor, unconnected_gradients=tf.UnconnectedGradients.ZERO)
      linear_part = tf.add_n([
          tf.reduce_sum(tf.stop_gradient(g) * v)
          for g, v in zip(gradients, actor, strict=True)])
      values[name] = tf.stop_gradient(values[name]) + (
          linear_part - tf.stop_gradient(linear_part))
    losses.update(values)
    return context

  def collect(self, phase, context, losses, metrics, without=()):
    """Adds the losses of a phase to `losses`, and their metrics.

    Args:
      phase: 'model' or 'behavior'.
      context: what they see.
      losses: {name: [B, T'] float32}, added to.
      metrics: {name: scalar}, added to.
      without: losses to leave out.

    Raises:
      UserError: if two losses return one name.
      ValueError: for a loss of another shape or type.
    """
    for loss in self._agent.losses:
      if loss.PHASE == phase and loss not in without:
        self._add(loss, context, losses, metrics)

  def _add(self, loss, context, losses, metrics):
    """Adds one loss object's values, checking names and shapes."""
    values, extra = loss(context)
    for name, value in values.items():
      if name in losses:
        raise _twice(name)
      steps = context.reward.shape
      if value.dtype != tf.float32 or value.shape.rank != 2 or (
          not steps[:1].is_compatible_with(value.shape[:1])
          or value.shape[1] > steps[1]):
        raise ValueError(
            f'loss {name!r} of {loss.name} is {value.dtype.name} '
            f'{value.shape} on a batch {steps}; losses are float32 [B, T] or '
            'of fewer steps, and unreduced')
      losses[name] = value
    metrics.update(extra)


def mean(loss):
  """Returns the mean of a loss [B, T']; 0 where it has no step, as T' = 0.

  Losses that look one step ahead have none in a sequence of one step.
  """
  return tf.zeros([]) if loss.shape[1] == 0 else tf.reduce_mean(loss)


def _sum_of_steps(losses, reward):
  """Returns the sum [B, T] of losses [B, T'], whose steps are the first T'.

  Args:
    losses: list of [B, T'] float32, T' <= T.
    reward: [B, T], for the shape.
  """
  length = reward.shape[1]
  whole = [tf.zeros_like(reward), *(
      tf.pad(x, [[0, 0], [0, length - x.shape[1]]]) for x in losses)]
  # Not add_n, whose order of summation depends on which input's memory is
  # free first: priorities, and with them a resumed run, would differ.
  return tf.reduce_sum(tf.stack(whole), 0)


def _twice(name):
  """Returns the error of two losses with one name."""
  return errors.UserError(
      f'two losses return {name!r}; remove one from Agent.losses')


def _separable(loss) -> bool:
  """Whether all that a loss exchanges lies in its `statistics`."""
  if loss.across_replicas == 'statistics':
    # A class that changes what its parent's call sees does not change what the
    # parent's statistics see.
    first = lambda name: next(
        i for i, cls in enumerate(type(loss).__mro__) if name in vars(cls))
    return loss.PHASE == 'behavior' and first('__call__') >= first('statistics')
  # What assigns variables cannot be in a function that XLA compiles apart.
  untrained = len(getattr(loss, 'variables', ())) > len(
      getattr(loss, 'trainable_variables', ()))
  return loss.across_replicas == 'never' and not untrained
