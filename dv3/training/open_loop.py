"""Open-loop predictions: what the model dreams after a few real frames."""

import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3.cores import base
from dv3.training import distribution
from dv3.training import video


class OpenLoop:
  """Predicts the rest of sequences from their first steps and the actions.

    report = OpenLoop(agent, seed=0)
    videos = report(batch)             # {key: uint8 [T, rows, columns, ch]}

  Each video has the true frames above, the model's in the middle and their
  difference below, sequences side by side. The border is green while the model
  sees the frames and red while it dreams.

  Args:
    agent: the built agent.
    seed: of the dreams' samples.
    context_steps: steps that the model sees; at most half of the sequence.
    sequences: how many sequences of the batch to show.
  """

  def __init__(
      self, agent, *, seed: int, context_steps: int = 5, sequences: int = 6):
    self._agent = agent
    self._seed = seed
    self._context = context_steps
    self._sequences = sequences
    self._keys = [
        k for k, s in agent.obs_spec if s.is_image and k in agent.decoder.keys]
    self._predict = tf.function(self._trace, autograph=False)

  @property
  def keys(self) -> list[str]:
    """The image keys that can be shown."""
    return list(self._keys)

  def __call__(self, batch):
    """Returns {key: video} of a NumPy batch as `Agent.loss` takes it."""
    if not self._keys:
      return {}
    batch = {k: v[:self._sequences] for k, v in batch.items()}
    length = batch['reward'].shape[1]
    context = max(1, min(self._context, length // 2))
    predictions = self.predict(batch, context)
    result = {}
    for key in self._keys:
      truth = batch[key]
      model = np.clip(predictions[key] * 255, 0, 255).astype(np.uint8)
      if truth.ndim == 4:
        truth, model = truth[..., None], model[..., None]
      result[key] = video.open_loop_grid(truth, model, context)
    return result

  def predict(self, batch, context: int) -> dict[str, np.ndarray]:
    """Predicts every image of a batch; the model sees the first steps only.

    Args:
      batch: {name: NumPy [B, T, ...]} as `Agent.loss` takes it.
      context: the steps that the model sees, below T.

    Returns:
      {key: float32 [B, T, rows, columns, ch]}, values in [0, 1].
    """
    predictions = self._predict(
        distribution.scatter(tf.distribute.get_strategy(), batch), context)
    return {key: predictions[key].numpy() for key in self._keys}

  def _trace(self, batch, context):
    agent = self._agent
    rng = distributions.Rng(self._seed).fold('open_loop')
    seen = {
        k: v if k.startswith('latent/') else v[:, :context]
        for k, v in batch.items()}
    filtered = agent.observe(seen, rng)
    state = tf.nest.map_structure(
        lambda x: tf.reshape(x, [-1, context, *x.shape[1:]])[:, -1],
        base.starts(agent.core, filtered.latents))
    actions = agent.codec.encode({
        k: batch['prev_' + k][:, context:] for k in agent.codec.specs})
    dream_rng = rng.fold('dream')
    def step(t, inputs, state):
      action, = inputs
      latents, state = agent.core.imagine_step(
          action, state, dream_rng.at(t))
      return agent.core.features(latents), state
    dreamed, _ = base.scan(step, (actions,), state, actions.shape[1])
    both = {
        name: tf.concat([filtered.features[name], value], 1)
        for name, value in dreamed.items()}
    dists = agent.decoder(both)
    return {key: _picture(dists[key]) for key in self._keys}


def _picture(dist):
  """Returns the predicted image in [0, 1], of any image distribution.

  A mean is one, but that of the 2021 form, which is shifted.
  """
  return dist.prediction() if hasattr(dist, 'prediction') else dist.mean()
