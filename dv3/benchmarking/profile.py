"""Where the time of an update goes, part by part."""

import time

import numpy as np
import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3.benchmarking import workload as workload_lib
from dv3.cores import base
from dv3.nets import fusion
from dv3.nets import xla
from dv3.training import distribution


def require_one_replica(workload: workload_lib.Workload) -> None:
  """Refuses several replicas, before anything is measured.

  Raises:
    UserError: if the configuration has several.
  """
  settings = workload.settings
  count = distribution.make_strategy(
      settings['distribution'], settings['replicas']).num_replicas_in_sync
  if count > 1:
    raise errors.UserError(
        '--profile times the parts of one replica, and train.distribution '
        f'{settings["distribution"]!r} has {count}; leave --profile out, or '
        'add --gin_param="train.distribution = \'single\'"')


def measure(
    workload: workload_lib.Workload, *, repeats: int
) -> dict[str, dict[str, float]]:
  """Returns the seconds of each part of an update, on one replica.

  Parts are compiled alone, in the mode of the update (XLA or graph), with
  results summed on the device, and run in turn; the best run counts, since
  other work only adds. What depends on others is a difference of two such
  times: `observe_scan` is filtering less the encoder, `losses` the whole
  forward pass less what is named, `backward` loss and gradients less the loss,
  `optimizer` the step on the device less those, `host` the whole call less
  that step. A difference can be below zero where parts overlap or fuse.

  Args:
    workload: what to measure, of one replica.
    repeats: timed runs of each.

  Returns:
    {'wall' or 'cpu': {part: seconds}}, with 'update', the whole call. CPU
    seconds are those of all threads, and hardly change where other programs
    compete.
  """
  calls = _calls(workload)
  for call in calls.values():
    _force(call())
    _force(call())
  runs = {name: [] for name in calls}
  for _ in range(repeats):
    for name, call in calls.items():
      begin = time.perf_counter(), time.process_time()
      _force(call())
      runs[name].append((
          time.perf_counter() - begin[0], time.process_time() - begin[1]))
  return {
      clock: _parts({
          name: float(np.min([x[i] for x in pairs]))
          for name, pairs in runs.items()})
      for i, clock in enumerate(('wall', 'cpu'))}


def _parts(t: dict[str, float]) -> dict[str, float]:
  """Returns the parts' seconds from those of the calls."""
  parts = {
      'encoder': t['encoder'], 'observe_scan': t['observe'] - t['encoder'],
      'imagination': t['imagination'], 'heads': t['heads'],
      'decoder': t['decoder']}
  return {
      **parts, 'losses': t['forward'] - sum(parts.values()),
      'backward': t['gradients'] - t['forward'],
      'optimizer': t['step'] - t['gradients'],
      'host': t['update'] - t['step'], 'update': t['update']}


def _calls(workload):
  """Returns the functions that are timed, by name."""
  update = workload_lib.make_update(workload)
  agent = update.agent
  batch = workload_lib.batches(workload, agent.latent_spec, 1)[0]
  parts = distribution.scatter(update.strategy, batch)
  rng = distributions.Rng(0).fold('profile')
  mixed = update.compiled == 'mixed'
  compiled = xla.compiled if update.compiled else (
      lambda function: tf.function(function, autograph=False))

  def stage(function, *arguments):
    function = compiled(function)
    return lambda: function(*arguments)

  def outside(function, *arguments):
    """A stage that 'mixed' leaves out of XLA, but for fused pieces."""
    if not mixed:
      return stage(function, *arguments)
    def run(*arguments):
      with fusion.fusing():
        return function(*arguments)
    run = tf.function(run, autograph=False)
    return lambda: run(*arguments)

  scan = compiled(
      lambda b, tokens: agent.observe(b, rng, tokens)._replace(parts=None))
  context = tf.function(
      lambda b: scan(b, agent.encode(b)), autograph=False)(parts)
  horizon = agent.imagination_horizon

  def dream(states):
    choose = lambda features, rng: rng.sample(agent.actor(features))
    return _sum(agent.core.imagine(choose, states, horizon, rng))

  def heads(features):
    return _sum([
        agent.reward(features).mean(), agent.continuation(features).mean(),
        agent.critic(features).mean(), agent.slow_critic(features).mean()])

  zero = tf.constant(0, tf.int64), tf.constant(0)
  return {
      'encoder': outside(lambda b: _sum(agent.encoder(_obs(agent, b))), parts),
      'observe': outside(
          lambda b: _sum(scan(b, agent.encode(b)).latents), parts),
      'imagination': stage(dream, base.starts(agent.core, context.latents)),
      'heads': stage(heads, {
          name: tf.repeat(
              tf.reshape(x, [-1, 1, x.shape[-1]]), horizon + 1, 1)
          for name, x in context.features.items()}),
      'decoder': outside(lambda f: _sum([
          dist.mode() for dist in agent.decoder(f).values()]),
          context.features),
      'forward': outside(lambda b: update.gradients.total(
          b, *zero), parts) if mixed else stage(
              lambda b: agent.loss(b, rng)[0], parts),
      'gradients': outside(lambda b: _sum(
          update.gradients(b, *zero)[::2]), parts) if mixed else stage(
              lambda b: _sum(update.loss_and_gradients(b, *zero)[::2]), parts),
      'step': lambda: update.device_step(parts),
      'update': lambda: update(batch)}


def _obs(agent, batch):
  return {key: batch[key] for key, _ in agent.obs_spec}


def _sum(nest):
  """Returns one number that needs every tensor of a nest."""
  return tf.add_n([tf.zeros([]), *(
      tf.reduce_sum(tf.cast(x, tf.float32)) for x in tf.nest.flatten(nest))])


def _force(nest) -> None:
  """Waits for every result."""
  tf.nest.map_structure(np.asarray, nest)
