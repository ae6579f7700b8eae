"""Loss and gradients on a CPU with images: XLA for all but the convolutions."""

import tensorflow as tf

from dv3 import objective
from dv3.nets import fusion


class MixedGradients:
  """Computes what `Agent.loss` and a tape would, in three parts.

    tokens = encoder(obs)                                  graph, oneDNN
    features = core(tokens)                                XLA
    l_i, d mean(l_i) / d features                          graph, oneDNN
    total, d total / d (tokens, mean(l_i), variables)      XLA
    d total / d encoder, d total / d decoder               graph, oneDNN

  l_i are the losses that run convolutions (`Loss.convolves`), of the decoder.
  TensorFlow's convolutions on a CPU, which are oneDNN's, are several times
  faster than XLA's; all else is faster under XLA. The core filters twice, since
  no gradient crosses the border of a compiled loop; the second time is some
  percent of an update.

  Args:
    agent: the built agent.
    variables: the trained variables, in the order of the gradients.
    make_rng: function (batch, update, replica) -> `Rng`.
    rest: what computes all but the convolutions, as `ReplicatedGradients.rest`
      on several replicas; None compiles it in one piece.
  """

  def __init__(self, agent, variables, make_rng, rest=None):
    self._agent = agent
    self._variables = variables
    self._make_rng = make_rng
    compiled = lambda function: tf.function(
        function, autograph=False, jit_compile=True)
    self._features = compiled(self._filter)
    self._rest = rest or compiled(self._compute_rest)
    self._total = compiled(self._compute_total)

  def __call__(self, batch, update, replica):
    """Returns (total, outputs, gradients) of one replica."""
    with tf.GradientTape(persistent=True) as tape, fusion.fusing():
      tokens = self._agent.encode(batch)
      constant = tf.stop_gradient(tokens)
      with tape.stop_recording():
        features, latents = self._features(batch, constant, update, replica)
      tape.watch(features)
      context = self._agent.context(batch, constant, latents)._replace(
          features=features)
      losses, metrics = self._agent.objective.convolutional_losses(context)
      means = {name: tf.reduce_mean(x) for name, x in losses.items()}
    convolved, slopes = {}, {}
    for name, mean in means.items():
      found = tape.gradient(
          mean, [list(features.values()), self._variables])
      slopes[name] = found[1]
      convolved[name] = objective.Convolved(losses[name], mean, [
          tf.zeros_like(x) if slope is None else slope
          for x, slope in zip(features.values(), found[0], strict=True)])
    total, outputs, shares, token_gradient, inside = self._rest(
        batch, constant, convolved, update, replica)
    encoder = tape.gradient(
        tokens, self._variables, output_gradients=token_gradient)
    gradients = []
    for i in range(len(self._variables)):
      terms = [
          shares[name] * slopes[name][i] for name in means
          if slopes[name][i] is not None]
      terms += [x for x in (encoder[i], inside[i]) if x is not None]
      gradients.append(tf.add_n(terms))
    return total, outputs._replace(
        metrics={**outputs.metrics, **metrics}), gradients

  def total(self, batch, update, replica):
    """Returns the total loss alone, for profiles."""
    agent = self._agent
    with fusion.fusing():
      tokens = agent.encode(batch)
      features, latents = self._features(batch, tokens, update, replica)
      context = agent.context(batch, tokens, latents)._replace(
          features=features)
      losses, _ = agent.objective.convolutional_losses(context)
    zeros = [tf.zeros_like(x) for x in features.values()]
    convolved = {
        name: objective.Convolved(x, tf.reduce_mean(x), zeros)
        for name, x in losses.items()}
    return self._total(batch, tokens, convolved, update, replica)

  def _compute_total(self, batch, tokens, convolved, update, replica):
    return self._agent.objective.total(
        batch, self._make_rng(batch, update, replica), tokens=tokens,
        convolved=convolved)[0]

  def _filter(self, batch, tokens, update, replica):
    context = self._agent.observe(
        batch, self._make_rng(batch, update, replica), tokens)
    return context.features, context.latents

  def _compute_rest(self, batch, tokens, convolved, update, replica):
    """Returns total, outputs, and its gradients in three groups."""
    rng = self._make_rng(batch, update, replica)
    means = {name: x.mean for name, x in convolved.items()}
    with tf.GradientTape() as tape:
      tape.watch([tokens, means])
      total, outputs, _ = self._agent.objective.total(
          batch, rng, tokens=tokens, convolved=convolved)
    return total, outputs, *tape.gradient(
        total, (means, tokens, self._variables),
        unconnected_gradients=tf.UnconnectedGradients.ZERO)
