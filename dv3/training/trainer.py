"""The outer loop: collect, learn, act on the results."""

import contextlib
import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import gin
from absl import logging

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.replay import replay as replay_lib
from dv3.training import checkpoints as checkpoints_lib
from dv3.training import cluster
from dv3.training import distribution as distribution_lib
from dv3.training import evaluation
from dv3.training import lock
from dv3.training import metrics as metrics_lib
from dv3.training import open_loop
from dv3.training import policy as policy_lib
from dv3.training import progress as progress_lib
from dv3.training import run
from dv3.training import step
from dv3.training import summary as summary_lib
from dv3.transforms import pipeline as pipeline_lib

evaluate = evaluation.evaluate  # The other injection point, for importers.

_HURRY_SECONDS = 5.0  # For an environment's step, once a signal came.


@gin.register(
    'train', module='dv3',
    denylist=['logdir', 'config_text', 'on_start', 'on_built', 'dry_run'])
def train(
    *, logdir: str | None, agent: Callable, env: Callable,
    collector: Callable, optimizers: tuple, env_steps: int,
    replayed_steps_per_env_step: float, sampler: Callable | None = None,
    transforms: tuple = (), prefill_env_steps: int = 0,
    loggers: tuple = (), seed: int = 0, batch_size: int = 16,
    batch_length: int = 64, replay_context: int = 1,
    replay_capacity: int = 5_000_000, replay_chunk_steps: int = 1024,
    online_queue: bool = True, distribution: str = 'single',
    replicas: int = 0, scaling: Callable | None = None,
    exploration: Callable | None = None,
    jit_compile: bool | str | None = None, steps_per_loop: int = 1,
    save_every_seconds: float = 60.0, log_every_seconds: float = 30.0,
    video_every_seconds: float = 300.0,
    keep_checkpoints: int = 2, max_bad_updates: int = 5,
    config_text: str = '', on_start: Callable | None = None,
    on_built: Callable | None = None, dry_run: bool = False
) -> dict[str, Any]:
  """Trains an agent, or goes on with what `logdir` holds.

  Args:
    logdir: the run directory; None only with `dry_run`.
    agent: factory (obs_spec, action_spec).
    env: factory that returns the environment's `types.Recipe`.
    collector: factory (env, seed).
    optimizers: (name, parts, factory) of each group; see `step.make_groups`.
    env_steps: budget, counted over all environments.
    replayed_steps_per_env_step: the train ratio.
    sampler: factory (capacity) of the replay sampler; uniform by default.
    transforms: factories that return `types.Recipe`s of what changes steps
      before they reach replay.
    prefill_env_steps: env steps with random actions before learning starts;
      with 0 it starts once replay holds a batch of the policy's own steps.
    loggers: factories (logdir).
    seed: of weights, policy, training and environments.
    batch_size: sequences a batch, over all replicas.
    batch_length: trained steps a sequence, T.
    replay_context: steps before them whose stored latent starts them, K; with
      0 sequences start from the core's initial state, and no latents are
      stored.
    replay_capacity: steps that replay holds at most.
    replay_chunk_steps: steps a file of replay holds.
    online_queue: whether fresh sequences are trained on first.
    distribution: see `distribution.make_strategy`.
    replicas: likewise.
    scaling: factory of the rule that multiplies batch size, environments and
      learning rates by the number of replicas; None leaves them.
    exploration: factory (action_spec, seed) of what changes the policy's
      actions while it collects, after `prefill_env_steps`; None leaves them.
    jit_compile: whether XLA compiles loss and gradients, and the policy: all
      of it, nothing, or 'mixed', all but convolutions (see `Update`). None
      means 'mixed' on a CPU where images are observed, since TensorFlow's own
      convolutions are several times faster there, else all of it
      (docs/performance.md).
    steps_per_loop: updates in one call of the device, for devices that wait for
      the host otherwise. Their batches are drawn before the first of them, and
      updates become due in so large steps.
    save_every_seconds: wall time between checkpoints; with 0 there is one at
      the end alone, and until then no file of replay is deleted.
    log_every_seconds: wall time between metrics; 0 for once, at the end.
    video_every_seconds: wall time between open-loop videos; 0 for none.
    keep_checkpoints: how many checkpoints stay.
    max_bad_updates: so many updates in a row whose loss or gradient is not
      finite end the run; fewer are skipped.
    config_text: the configuration, kept in every checkpoint.
    on_start: called once with the summary, and the 'env_steps' and 'updates'
      at which the run begins or goes on, when everything is built and restored.
      A start that is refused does not get so far.
    on_built: called once after the first update, for what exists only then.
    dry_run: only builds the agent, and returns what it found.

  Returns:
    With `dry_run`, the summary that `dv3-train --dry_run` prints, else
    {'env_steps', 'updates', 'stopped'}.

  Raises:
    UserError: for what the user can mend; see the messages.
  """
  check(locals())
  with contextlib.ExitStack() as stack:
    stop = run.Stop()
    place = cluster.place() if distribution == 'multiworker' else (0, 1)
    if not dry_run:
      assert logdir is not None, 'only a dry run needs no logdir'
      stack.enter_context(lock.hold(
          cluster.own_folder(pathlib.Path(logdir), place[0])))
      stack.enter_context(stop)
    waits = distribution == 'multiworker' and not dry_run
    with stop.leaving() if waits else contextlib.nullcontext():
      strategy = distribution_lib.make_strategy(distribution, replicas)
    if not dry_run:
      stop.listen()
    workers = cluster.Cluster(strategy, *place)
    run.seed_everything(seed)
    recipe = env()
    scale = types.Scale()
    if scaling is not None:
      scale = scaling()(strategy.num_replicas_in_sync)
      batch_size *= scale.batch
    stop.hurry = _leave  # There is nothing to save yet.
    # Each worker draws its part of a batch from the steps that it collected.
    sequences = workers.share(batch_size, 'train.batch_size')
    distribution_lib.check_divides(strategy, sequences)
    collector_ = collector(env=recipe, seed=workers.seed(seed))
    stack.callback(collector_.close)
    stop.hurry = None
    if hasattr(collector_, 'hurry'):
      stop.hurry = lambda: collector_.hurry(_HURRY_SECONDS)
    if scale.environments > 1:
      collector_.resize(collector_.num_envs * scale.environments)
    with strategy.scope():
      agent_ = agent(
          obs_spec=collector_.obs_spec, action_spec=collector_.action_spec)
      agent_.build()
    specs = {
        **collector_.obs_spec, **collector_.action_spec, **types.FLAGS,
        **(agent_.latent_spec if replay_context else {})}
    # Resets are stored too: a little more than the budget's steps, or as much
    # again where episodes are of one step. Unwritten memory costs nothing.
    capacity = int(min(replay_capacity, env_steps * 2 + 5000) / workers.count)
    expected = int(
        min(replay_capacity, env_steps * 1.05 + 5000) / workers.count)
    summary = summary_lib.summarize(
        agent_, strategy, specs, expected, replay_chunk_steps,
        collector_.num_envs, batch_length + replay_context,
        replayed_steps_per_env_step, batch_size * batch_length)
    exploration_ = exploration and exploration(
        action_spec=collector_.action_spec, seed=workers.seed(seed))
    if env_steps < batch_size * batch_length:
      raise errors.UserError(
          f'train.env_steps {env_steps} is less than one batch of '
          f'{batch_size} x {batch_length} steps, so that nothing would be '
          'trained; raise STEPS, or lower train.batch_size or '
          'train.batch_length')
    replay_lib.check_capacity(
        capacity, workers=collector_.num_envs,
        batch_steps=sequences * batch_length)
    rate = _rate(scale, env_steps * summary['updates_per_env_step'])
    if dry_run:  # Refused as a start would be.
      step.check_compiler(jit_compile)
      step.make_groups(agent_, optimizers, rate)
      return summary
    distribution_lib.warn_of_unseen_gpu(strategy)
    if shortage := replay_lib.shortage(summary['replay_bytes']):
      raise errors.UserError(shortage)
    sampler = sampler or registry.get('sampler', 'uniform')
    assert logdir is not None, 'only a dry run needs no logdir'
    path = pathlib.Path(logdir)
    replay = replay_lib.Replay(
        specs, capacity=capacity, length=batch_length, context=replay_context,
        sampler=sampler(capacity=capacity), chunk_steps=replay_chunk_steps,
        online=online_queue, seed=workers.seed(seed),
        directory=workers.folder(path) / 'replay',
        workers=collector_.num_envs, batch_size=sequences,
        # Those of one call, and the one that is gathered meanwhile.
        staged_batches=steps_per_loop + 1, expected_steps=expected)
    update = step.make_update(
        agent_, strategy, optimizers, seed=seed, jit_compile=jit_compile,
        rate=rate)
    checkpoints = checkpoints_lib.Checkpoints(
        path / 'checkpoints', keep=keep_checkpoints, workers=workers)
    stack.callback(checkpoints.close)  # Before the lock is given up.
    if workers.is_chief and not checkpoints.all():
      run.set_earlier_aside(path)
    loop = functools.partial(
        _loop,
        workers=workers, tally=cluster.Tally(workers, collector_.num_envs),
        update=update, collector=collector_, replay=replay,
        pipeline=pipeline_lib.Pipeline(
            [factory().build() for factory in transforms], replay.add),
        policy=policy_lib.Policy(
            agent_, seed=workers.seed(seed),
            random_steps=prefill_env_steps,
            exploration=exploration_, jit_compile=update.compiled,
            # Of all workers, whose environments are as many.
            env_steps=lambda: collector_.env_steps * workers.count),
        loggers=[factory(logdir=logdir) for factory in loggers]
        if workers.is_chief else [],
        report=open_loop.OpenLoop(agent_, seed=seed),
        feed=run.Feed(replay, sequences),
        credit=run.Credit(summary['updates_per_env_step']),
        checkpoints=checkpoints, steps_per_loop=steps_per_loop,
        env_steps=env_steps,
        warm_items=sequences * batch_length,
        prefill_env_steps=prefill_env_steps,
        save_every_seconds=save_every_seconds,
        log_every_seconds=log_every_seconds,
        video_every_seconds=video_every_seconds,
        config_text=config_text, stop=stop,
        on_start=lambda begin: on_start and on_start({**summary, **begin}),
        on_built=on_built,
        bad_updates=run.BadUpdates(workers.folder(path), max_bad_updates))
    try:
      return loop()
    except cluster.PeerLostError as error:
      error.stopped = stop.requested
      raise


def check(settings: dict[str, Any]) -> None:
  """Refuses numbers that no run can have.

  Args:
    settings: {argument of `train`: value}.

  Raises:
    UserError: naming the first one.
  """
  pick = lambda *names: {f'train.{name}': settings[name] for name in names}
  errors.check_least(1, pick(
      'batch_size', 'batch_length', 'env_steps', 'replay_capacity',
      'replay_chunk_steps', 'steps_per_loop', 'keep_checkpoints',
      'max_bad_updates'))
  errors.check_least(0, pick(
      'replayed_steps_per_env_step', 'replay_context', 'prefill_env_steps',
      'replicas'))
  errors.check_within(0, 2 ** 63 - 1, pick('seed'))


def _leave():
  sys.exit(0)


def _rate(scale, updates):
  """Returns what `Update` takes of a scale, for so many updates in all."""
  if scale == types.Scale():
    return None
  return (
      scale.learning_rate, scale.priming, int(scale.priming_share * updates))


def _loop(
    *, workers, tally, update, collector, replay, pipeline, policy, loggers,
    report, feed, credit, checkpoints, steps_per_loop, env_steps, warm_items,
    prefill_env_steps, save_every_seconds, log_every_seconds,
    video_every_seconds, config_text, on_start, on_built, stop, bad_updates):
  """Runs until the budget is spent or a signal asks to stop.

  Several workers run it in lock-step; whatever steers it is agreed on.
  """
  parts = {
      'workers': workers, 'tally': tally, 'update': update, 'replay': replay,
      'collector': collector, 'pipeline': pipeline, 'feed': feed,
      'credit': credit}
  folder = checkpoints.latest()
  if folder is not None:
    run.restore(folder, **parts)
    workers.barrier()
    if workers.is_chief:
      checkpoints.set_aside(folder)
  elif checkpoints.all():
    raise checkpoints.nothing_whole()
  for logger in loggers:
    logger.truncate(tally.env_steps)
  counters = lambda: {
      'env_steps': tally.env_steps, 'updates': update.count}
  on_start(counters())
  meter = metrics_lib.Metrics(**counters())
  progress = progress_lib.Progress(env_steps, **counters())
  clocks = {
      name: run.Clock(seconds, time.monotonic) for name, seconds in (
          ('save', save_every_seconds), ('log', log_every_seconds),
          ('video', video_every_seconds))}

  def save():
    with meter.section('save'):
      for logger in loggers:
        logger.flush()
      checkpoints.save(
          tally.env_steps, lambda folder: run.save(
              folder, config_text=config_text, **parts),
          then=lambda: replay.prune([
              workers.folder(x) / 'replay' for x in checkpoints.all()]))

  def log():
    if checkpoints.seconds is not None:
      meter.add({'checkpoint/seconds': checkpoints.seconds})
    values = meter.result(**counters())
    for logger in loggers:
      logger.write(tally.env_steps, values)
      logger.flush()

  def film():
    if batch is None or not report.keys or not loggers:
      return
    with meter.section('video'):
      for key, value in report(batch).items():
        for logger in loggers:
          logger.write(tally.env_steps, {f'open_loop/{key}': value})

  batch, begin, stopped = None, tally.env_steps, None

  def stopping():
    nonlocal stopped
    if stopped is None and workers.any(stop.requested):
      stopped = stop.requested or 'another worker'
    return stopped is not None

  def learn():
    nonlocal batch, on_built
    # Asked in this order, a stop costs no credit.
    while (
        credit.due(steps_per_loop) and not stopping()
        and workers.all(len(replay))):
      credit.spend(steps_per_loop)
      batch = _learn(
          workers, update, replay, feed, meter, bad_updates, steps_per_loop)
      if on_built is not None:
        on_built()
        on_built = None

  learn()  # What a stop left to do.
  while tally.env_steps < env_steps and not stopping():
    before = collector.env_steps
    with meter.section('collect'):
      episodes = collector.run(policy, pipeline, 1)
    episodes, ready = tally.add(
        collector.env_steps - before, episodes, len(replay) >= warm_items)
    for episode in episodes:
      meter.episode(episode)
      progress.episode(episode)
      for logger in loggers:
        logger.episode(episode)
    if ready and tally.env_steps >= prefill_env_steps:
      credit.earn(tally.earned)
    learn()
    status = progress.status(**counters())
    for logger in loggers:
      logger.progress(tally.env_steps, status)
    if clocks['log'].due():
      log()
    if batch is not None and clocks['video'].due():
      film()
    # So early that it is whole in time: a kill before that loses what was
    # done since the one before.
    if workers.chiefs(not checkpoints.writing and clocks['save'].due(
        lead=checkpoints.lead(save_every_seconds))):
      save()
  if batch is not None or folder is None or tally.env_steps > begin:
    film()
    log()
    save()
    checkpoints.settle()
  if not update.count and stopped is None:
    logging.warning(
        'the run ended without an update after %d env steps: '
        'train.replayed_steps_per_env_step is too low for one, or they were '
        'spent before replay held a batch and train.prefill_env_steps were '
        'over; raise STEPS or that ratio', tally.env_steps)
  for logger in loggers:
    logger.close()
  return {
      'env_steps': tally.env_steps, 'updates': update.count,
      'stopped': stopped}


def _learn(workers, update, replay, feed, meter, bad_updates, count):
  """Runs updates and hands their latents and losses back to replay.

  Returns:
    The last batch without the entries that only replay understands.
  """
  batches = []
  with meter.section('sample'):
    for _ in range(count):
      feed.settle()
      batches.append(feed.take())
  inputs = [
      {k: v for k, v in batch.items() if k not in ('stepid', 'item')}
      for batch in batches]
  with meter.section('update'), cluster.guard(workers):
    first = update.count + 1
    results = update.run(inputs)
  feed.settle()
  for number, (batch, (losses, metrics, entries, per_step)) in enumerate(
      zip(batches, results, strict=True), first):
    if bad_updates.check(number, batch, losses, metrics):
      meter.add({'train/finite': 0.0, 'train/skipped_updates_sum': 1.0})
      continue
    with meter.section('write_back'):
      replay.write_latents(batch['stepid'], {
          k: v for k, v in entries.items() if k in replay.specs})
      replay.update_sampler(batch['item'], {'loss': per_step})
    meter.add({f'loss/{k}': v for k, v in losses.items()})
    meter.add({
        f'train/{k}': v for k, v in metrics.items() if k != 'bad_gradient'})
  return inputs[-1]
