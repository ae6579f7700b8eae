"""Loss and gradients on a CPU with images: XLA for all but the convolutions."""

import tensorflow as tf

from dv3 import objective
from dv3.nets import fusion
from dv3.nets import xla
from dv3.training import warming

# Steps whose images are convolved at once. Fewer keep the caches warmer and
# need less memory; below this each operation's own cost shows.
STEPS_AT_ONCE = 256


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
  percent of an update. What the graph does it does for some sequences after the
  others, about `STEPS_AT_ONCE`.

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
    self._encode = tf.function(self._compute_tokens, autograph=False)
    self._features = xla.compiled(self._filter)
    self._convolve = tf.function(self._compute_convolved, autograph=False)
    self._ahead = rest is None
    self._rest = rest or xla.compiled(self._compute_rest)
    self._total = xla.compiled(self._compute_total)

  def __call__(self, batch, update, replica):
    """Returns (total, outputs, gradients) of one replica."""
    tokens, pieces, tapes = self._encode_all(batch)
    features, latents = self._features(batch, tokens, update, replica)
    convolved, metrics, slopes = self._convolve_all(
        batch, tokens, latents, features)
    inputs = batch, tokens, convolved, update, replica
    if self._ahead:
      warming.compile_ahead(self._rest, *inputs)
    total, outputs, shares, token_gradient, inside = self._rest(*inputs)
    encoder = self._encoder_gradients(pieces, tapes, token_gradient)
    gradients = []
    for i in range(len(self._variables)):
      terms = [
          shares[name] * found[i] for name, found in slopes.items()
          if found[i] is not None]
      terms += [x for x in (encoder[i], inside[i]) if x is not None]
      gradients.append(tf.add_n(terms))
    return total, outputs._replace(
        metrics={**outputs.metrics, **metrics}), gradients

  def total(self, batch, update, replica):
    """Returns the total loss alone, for profiles."""
    agent = self._agent
    tokens, _, _ = self._encode_all(batch)
    features, latents = self._features(batch, tokens, update, replica)
    with fusion.fusing():
      context = agent.context(batch, tokens, latents)._replace(
          features=features)
      losses, _ = agent.objective.convolutional_losses(context)
    zeros = [tf.zeros_like(x) for x in features.values()]
    convolved = {
        name: objective.Convolved(x, objective.mean(x), zeros)
        for name, x in losses.items()}
    return self._total(batch, tokens, convolved, update, replica)

  def _encode_all(self, batch):
    """Returns tokens without a gradient, their pieces, and a tape a piece."""
    pieces, tapes = [], []
    for part in _split(batch, self._count(batch)):
      with tf.control_dependencies(pieces[-1:]), tf.GradientTape() as tape:
        pieces.append(self._encode(
            {key: part[key] for key, _ in self._agent.obs_spec}))
      tapes.append(tape)
    return tf.stop_gradient(tf.concat(pieces, 0)), pieces, tapes

  def _compute_tokens(self, obs):
    with fusion.fusing():
      return self._agent.encode(obs)

  def _encoder_gradients(self, pieces, tapes, token_gradient):
    """Returns the gradients through the tokens, None for other variables."""
    sums = [None] * len(self._variables)
    upstreams = _split(token_gradient, len(pieces))
    for piece, tape, upstream in zip(pieces, tapes, upstreams, strict=True):
      with tf.control_dependencies([x for x in sums if x is not None]):
        found = tape.gradient(
            piece, self._variables, output_gradients=upstream)
        sums = [x if total is None else total + x
                for total, x in zip(sums, found, strict=True)]
    return sums

  def _convolve_all(self, batch, tokens, latents, features):
    """Computes the losses that run convolutions, and their gradients.

    Returns:
      ({name: `Convolved`}, {metric: scalar}, {name: gradient of the mean for
      each variable, or None}).
    """
    results = []
    parts = _split(
        (batch, tokens, latents, features), self._count(batch))
    for part in parts:
      before = tf.nest.flatten(results[-1:])
      with tf.control_dependencies([x for x in before if x is not None]):
        results.append(self._convolve(*part))
    losses, metrics, slopes, found = zip(*results, strict=True)
    convolved = {
        name: objective.Convolved(
            tf.concat([x[name] for x in losses], 0),
            _mean([objective.mean(x[name]) for x in losses]),
            [tf.concat(x, 0) / len(parts)
             for x in zip(*(x[name] for x in slopes), strict=True)])
        for name in losses[0]}
    return (
        convolved, tf.nest.map_structure(lambda *x: _mean(x), *metrics),
        {name: [_mean(x) for x in zip(*(y[name] for y in found), strict=True)]
         for name in losses[0]})

  def _compute_convolved(self, batch, tokens, latents, features):
    """Returns losses, metrics, and slopes for features and for variables."""
    with tf.GradientTape(persistent=True) as tape, fusion.fusing():
      tape.watch(features)
      context = self._agent.context(batch, tokens, latents)._replace(
          features=features)
      losses, metrics = self._agent.objective.convolutional_losses(context)
      means = {name: objective.mean(x) for name, x in losses.items()}
    slopes, found = {}, {}
    for name, mean in means.items():
      inner, found[name] = tape.gradient(
          mean, [list(features.values()), self._variables])
      slopes[name] = [
          tf.zeros_like(x) if slope is None else slope
          for x, slope in zip(features.values(), inner, strict=True)]
    return losses, metrics, slopes, found

  def _count(self, batch):
    """Returns in how many parts the sequences are convolved."""
    sequences, length = batch['reward'].shape[:2]
    if not (sequences and length
            and self._agent.objective.convolves_by_example):
      return 1
    return max(
        n for n in range(1, sequences + 1) if n == 1 or (
            sequences % n == 0 and sequences // n * length >= STEPS_AT_ONCE))

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


def _split(nest, count):
  """Returns tensors [B, ...] in parts along their first axis."""
  if count == 1:
    return [nest]
  def cut(x, i):
    size = x.shape[0] // count
    return x[i * size: (i + 1) * size]
  return [
      tf.nest.map_structure(lambda x, i=i: cut(x, i), nest)
      for i in range(count)]


def _mean(values):
  """Returns the mean of tensors, or None where they are None."""
  if values[0] is None:
    return None
  return tf.add_n(list(values)) / len(values)
