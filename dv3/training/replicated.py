"""Loss and gradients on several replicas: XLA around what they exchange."""

import tensorflow as tf

from dv3 import objective
from dv3.nets import xla
from dv3.normalizers import statistics as statistics_lib


class ReplicatedGradients:
  """Computes what `Agent.loss` and a tape would, in two compiled parts.

    total, dream, gradients of all but the awaited losses       XLA
    statistics of all replicas, from the dreams                 graph
    the awaited losses and their gradients                      XLA
    total of all                                                graph

  Collectives cannot be in what XLA compiles. In the published agent one loss
  awaits one, the actor's: the scale of its returns is a percentile of those of
  all replicas (`Loss.across_replicas`).

  Args:
    agent: the built agent; its `objective` must be separable.
    variables: the trained variables, in the order of the gradients.
    make_rng: function (batch, update, replica) -> `Rng`.
  """

  def __init__(self, agent, variables, make_rng):
    self._agent = agent
    self._variables = variables
    self._make_rng = make_rng
    balancer = {v.ref() for v in agent.variables_of('balancer')}
    self._weighing = [v for v in variables if v.ref() in balancer]
    self._first = xla.compiled(self._compute_first)
    self._last = xla.compiled(self._compute_last)

  def __call__(self, batch, update, replica):
    """Returns (total, outputs, gradients) of one replica."""
    total, outputs, _, _, gradients = self.rest(
        batch, None, None, update, replica)
    return total, outputs, gradients

  def rest(self, batch, tokens, convolved, update, replica):
    """Computes all that was not computed before.

    Args:
      batch: see `Agent.loss`.
      tokens: [B, T, E] or None, see `Objective.total`.
      convolved: {name: `Convolved`} or None.
      update: int64 scalar, the updates before this one.
      replica: the replica's number.

    Returns:
      (total, outputs, {name: gradient of the mean} of `convolved`, gradient of
      the tokens or None, gradients of the variables).
    """
    agent, objective = self._agent, self._agent.objective
    outputs, found, tokens, latents, dream = self._first(
        batch, tokens, convolved, update, replica)
    shares, slopes, token_gradient, gradients = found
    statistics = objective.statistics(
        self._context(batch, tokens, latents, dream))
    means, metrics, later = self._last(
        batch, tokens, latents, dream, statistics, shares)
    gradients = [
        x if y is None else x + y
        for x, y in zip(gradients, self._aligned(later), strict=True)]
    means = {**outputs.losses, **means}
    # With all means known; the first part's total lacked some.
    with tf.GradientTape() as tape:
      total, weighing = agent.balancer(means)
    own = iter(tape.gradient(
        total, self._weighing,
        unconnected_gradients=tf.UnconnectedGradients.ZERO))
    refs = {v.ref() for v in self._weighing}
    gradients = [
        next(own) if variable.ref() in refs else gradient
        for variable, gradient in zip(self._variables, gradients, strict=True)]
    return total, outputs._replace(
        losses=means, metrics={**outputs.metrics, **metrics, **weighing},
    ), slopes, token_gradient, gradients

  def _compute_first(self, batch, tokens, convolved, update, replica):
    """Computes all but the awaited losses."""
    agent = self._agent
    awaited = {
        name: tf.zeros([]) for loss in agent.objective.awaiting
        for name in loss.names(agent.parts)}
    known = {name: x.mean for name, x in (convolved or {}).items()}
    with tf.GradientTape() as tape, statistics_lib.isolated():
      tape.watch([awaited, known, [] if tokens is None else tokens])
      total, outputs, context = agent.objective.total(
          batch, self._make_rng(batch, update, replica), tokens=tokens,
          convolved=convolved, awaited=awaited)
    zero = tf.UnconnectedGradients.ZERO
    shares, slopes, token_gradient, gradients = tape.gradient(
        total, (awaited, known, [] if tokens is None else [tokens],
                self._variables), unconnected_gradients=zero)
    dream = context.imagined
    if dream is not None:
      dream = dream._replace(critic=None, actor=None, discount=None)
    return outputs, (
        shares, slopes, token_gradient[0] if token_gradient else None,
        gradients), context.tokens, context.latents, dream

  def _compute_last(
      self, batch, tokens, latents, dream, statistics, shares):
    """Returns the awaited means, their metrics and their gradients."""
    agent = self._agent
    with tf.GradientTape() as tape, statistics_lib.isolated():
      context = self._context(batch, tokens, latents, dream)
      if dream is not None:
        context = context._replace(imagined=context.imagined._replace(
            actor=agent.actor(dream.features)))
      losses, metrics = agent.objective.awaited_losses(context, statistics)
      means = {name: objective.mean(x) for name, x in losses.items()}
      weighed = tf.add_n(
          [shares[name] * mean for name, mean in means.items()]
          or [tf.zeros([])])
    gradients = tape.gradient(weighed, self._variables)
    self._reached = [x is not None for x in gradients]
    return means, metrics, [x for x in gradients if x is not None]

  def _aligned(self, gradients):
    """Puts None where `_compute_last` left variables out."""
    given = iter(gradients)
    return [next(given) if reached else None for reached in self._reached]

  def _context(self, batch, tokens, latents, dream):
    """Returns what the awaited losses see, as constants."""
    if dream is not None:
      dream = dream._replace(discount=(
          1.0 if self._agent.discounted_continue else self._agent.discount))
    return self._agent.context(batch, tokens, latents)._replace(
        imagined=dream)
