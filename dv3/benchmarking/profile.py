"""Where the time of an update goes, part by part."""

import time

import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3.benchmarking import update as update_lib
from dv3.benchmarking import workload as workload_lib
from dv3.training import distribution


def measure(
    workload: workload_lib.Workload, *, repeats: int) -> dict[str, float]:
  """Returns the seconds of each part of an update, on one replica.

  Parts are compiled alone, in the mode of the update (XLA or graph), with
  results summed on the device; what depends on others is a difference of two
  such times: `observe_scan` is filtering less the encoder, `losses` the whole
  forward pass less what is named, `backward` loss and gradients less the loss,
  `optimizer` the step on the device less those, `host` the whole call less
  that step. A difference can be below zero where parts overlap or fuse.

  Args:
    workload: what to measure; with `distribution` 'single'.
    repeats: timed runs of each; the median counts.

  Returns:
    {part: seconds}, with 'update', the whole call.
  """
  update = workload_lib.make_update(workload)
  agent = update.agent
  batch = workload_lib.batches(workload, agent.latent_spec, 1)[0]
  parts = distribution.scatter(update.strategy, batch)
  compiled = update.compiled
  rng = distributions.Rng(0).fold('profile')

  def timed(function, *arguments):
    function = tf.function(
        function, autograph=False, jit_compile=compiled or None)
    return _median(lambda: function(*arguments), repeats)

  encoder = timed(lambda b: _sum(agent.encoder(_obs(agent, b))), parts)
  observe = timed(lambda b: _sum(_filter(agent, b, rng)), parts)
  context = tf.function(
      lambda b: agent.observe(b, rng)._replace(parts=None), autograph=False,
      jit_compile=compiled or None)(parts)
  starts = agent.core.starts(context.latents)

  def dream(states):
    choose = lambda features, rng: rng.sample(agent.actor(features))
    return agent.core.imagine(
        choose, states, agent.imagination_horizon, rng)
  imagination = timed(lambda s: _sum(dream(s)), starts)
  horizon = agent.imagination_horizon + 1
  features = {
      name: tf.repeat(tf.reshape(x, [-1, 1, x.shape[-1]]), horizon, 1)
      for name, x in context.features.items()}
  heads = timed(lambda f: _sum([
      agent.reward(f).mean(), agent.continuation(f).mean(),
      agent.critic(f).mean(), agent.slow_critic(f).mean()]), features)
  decoder = timed(lambda f: _sum([
      dist.mode() for dist in agent.decoder(f).values()]), context.features)
  forward = timed(lambda b: agent.loss(b, rng)[0], parts)
  zero = tf.constant(0, tf.int64), tf.constant(0)
  both = timed(lambda b: _sum(
      update.loss_and_gradients(b, *zero)[::2]), parts)
  step = _median(lambda: update.device_step(parts), repeats)
  whole = _median(lambda: update_lib.run(update, batch), repeats)
  return {
      'encoder': encoder, 'observe_scan': observe - encoder,
      'imagination': imagination, 'heads': heads, 'decoder': decoder,
      'losses': forward - observe - imagination - heads - decoder,
      'backward': both - forward, 'optimizer': step - both,
      'host': whole - step, 'update': whole}


def _obs(agent, batch):
  return {key: batch[key] for key, _ in agent.obs_spec}


def _filter(agent, batch, rng):
  context = agent.observe(batch, rng)
  return context.latents, context.tokens


def _sum(nest):
  """Returns one number that needs every tensor of a nest."""
  return tf.add_n([
      tf.reduce_sum(tf.cast(x, tf.float32)) for x in tf.nest.flatten(nest)])


def _median(call, repeats: int) -> float:
  """Returns the median seconds of a call, after one that compiles."""
  seconds = []
  for number in range(repeats + 2):
    begin = time.perf_counter()
    tf.nest.map_structure(np.asarray, call())
    if number >= 2:
      seconds.append(time.perf_counter() - begin)
  return float(np.median(seconds))
