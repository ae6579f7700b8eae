"""dv3-train: trains an agent, or goes on with a run."""

import os
import pathlib
import sys

from absl import flags

from dv3 import errors
from dv3.bin import app
from dv3.bin import compile_cache

FLAGS = flags.FLAGS
_LOSSES = 'DV3_LOST_WORKERS'
"""From one start of a worker to the next: 'checkpoint:times'."""
_MOST_LOSSES = 10
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False,
    'Only build the agent, print one JSON line about it, and exit.')


def default_logdir(gin_files) -> str:
  """Returns runs/<name of the last configuration file>."""
  name = pathlib.Path(gin_files[-1]).stem if gin_files else 'run'
  return os.path.join('runs', name)


def _configure(logdir):
  """Parses the configuration, and checks it against a run to resume."""
  from dv3 import config
  params = list(FLAGS.gin_param)
  if FLAGS.seed is not None:
    params.append(f'train.seed = {FLAGS.seed}')
  exists = logdir and os.path.exists(os.path.join(logdir, config.FILE_NAME))
  if not exists:
    if logdir:
      _require_no_checkpoint(logdir, config.FILE_NAME)
    if FLAGS.logdir and not FLAGS.gin_file and not params:
      raise errors.UserError(
          f'{FLAGS.logdir} holds no run and no configuration was given; check '
          '--logdir, or begin with --gin_file=preset/quickstart.gin')
    return config.parse(FLAGS.gin_file, params, FLAGS.plugin)
  if os.path.exists(os.path.join(logdir, 'manifest.json')):
    raise errors.UserError(
        f'{logdir} is one checkpoint of a run; give the run, '
        f'--logdir={pathlib.Path(logdir).absolute().parents[1]}, which goes on '
        'from its last one')
  if FLAGS.gin_file:  # What these import, the run may have been made with.
    config.parse(FLAGS.gin_file, params, FLAGS.plugin)
  old = config.load(logdir, plugins=FLAGS.plugin)
  if FLAGS.gin_file:
    new = config.parse(FLAGS.gin_file, params, FLAGS.plugin)
  elif params:
    new = config.load(logdir, params, FLAGS.plugin)
  else:
    return old
  config.require_resumable(old, new)
  for difference in config.compare(old, new):
    print(
        f'{difference.name}: {difference.old} becomes {difference.new}',
        file=sys.stderr if _DRY_RUN.value else sys.stdout)
  return new


def _require_no_checkpoint(logdir, name):
  """Raises UserError for a run whose configuration is gone."""
  kept = sorted(pathlib.Path(logdir).glob(f'checkpoints/step-*/{name}'))
  if kept:
    raise errors.UserError(
        f'{logdir} has checkpoints, but no {name}, without which nobody knows '
        f'whether the run would go on as it began; copy it back: cp {kept[-1]} '
        f'{logdir}')


def _train(train, logdir, configuration):
  """Trains; the chief writes the configuration too."""
  from dv3 import config
  from dv3.training import cluster
  from dv3.training import lock
  from dv3.training import summary as summary_lib
  settings = {'logdir': logdir, 'config_text': configuration.file_text()}
  several = configuration.value('dv3.train', 'distribution') == 'multiworker'
  if several and cluster.place()[0]:
    return train(**settings)
  def start(summary):
    # Only now: a start that was refused must not bind the next one.
    configuration.save(logdir)
    print(summary_lib.line(summary), flush=True)
    if summary['env_steps']:
      print(
          f'goes on at {summary["env_steps"]:,} env steps, '
          f'{summary["updates"]:,} updates', flush=True)
  with lock.hold(logdir):
    print(f'run directory: {os.path.abspath(logdir)}')
    for name in configuration.unused:
      print(f'not used: {name}')
    return train(
        **settings, on_start=start,
        on_built=lambda: config.save_operative(logdir))


def _count_losses(logdir, error):
  """Raises UserError where other workers are lost again and again."""
  newest = max(
      (x.name for x in pathlib.Path(logdir).glob('checkpoints/step-*')),
      default='')
  before, _, count = os.environ.get(_LOSSES, '').rpartition(':')
  number = int(count) + 1 if count and before == newest else 1
  if number > _MOST_LOSSES:
    raise errors.UserError(
        f'{error}; that was {number} times without a new checkpoint, so that '
        'the cause may be here; the same command goes on from the last one')
  os.environ[_LOSSES] = f'{newest}:{number}'


def main(argv):
  """Trains with the configuration that the flags name."""
  del argv
  if not _DRY_RUN.value:
    app.stop_at_signals()
    compile_cache.enable()
  logdir = FLAGS.logdir
  if not logdir and not _DRY_RUN.value:
    logdir = default_logdir(FLAGS.gin_file)
  configuration = _configure(logdir)
  import gin

  from dv3.training import cluster
  from dv3.training import summary as summary_lib
  train = gin.get_configurable('dv3.train')
  if _DRY_RUN.value:
    summary_lib.print_json(train(logdir=None, dry_run=True))
    return
  try:
    result = _train(train, logdir, configuration)
  except cluster.PeerLostError as error:
    if error.stopped:
      print(f'stopped by {error.stopped}; {error}, so that the run is at its '
            'last checkpoint')
      return
    _count_losses(logdir, error)
    print(
        f'{error}; starting again, and waiting for it at the last checkpoint',
        file=sys.stderr, flush=True)
    # TensorFlow cannot join a cluster twice in one process.
    compile_cache.disable()
    os.execv(sys.executable, sys.orig_argv)
  done = f'stopped by {result["stopped"]}' if result['stopped'] else 'finished'
  print(
      f'{done} at {result["env_steps"]:,} env steps, '
      f'{result["updates"]:,} updates: {os.path.abspath(logdir)}')


def run():
  """The console script."""
  app.run(main)


if __name__ == '__main__':
  run()
