"""dv3-export: the update and the policy as programs that run without dv3.

  dv3-export --gin_file=preset/quickstart.gin --update --output=programs
  dv3-export --logdir=runs/cartpole --policy --output=programs

--update writes the folders gradients (loss and gradients) and update (the whole
update with its optimizer), both of one device with the whole batch; --policy
writes policy (one step) and saved_model (for serving). All but the last are
StableHLO with inputs, for any PJRT runtime; see docs/performance.md.

--norun leaves inputs and expected results out of them. Large sizes are so
translated in a minute, where one update takes minutes on a CPU.
"""

import json
import os

from absl import flags

from dv3 import errors
from dv3.bin import app

FLAGS = flags.FLAGS
_UPDATE = flags.DEFINE_bool('update', False, 'Write the update.')
_POLICY = flags.DEFINE_bool('policy', False, 'Write the policy.')
_OUTPUT = flags.DEFINE_string(
    'output', 'export', 'The folder that gets a folder for each program.')
_NUM_ENVS = flags.DEFINE_integer(
    'num_envs', 1, "Environments that act at once in policy's StableHLO.",
    lower_bound=1)
_LIKELIEST = flags.DEFINE_bool(
    'likeliest', False, 'Take the likeliest actions in place of samples.')
_DTYPE = flags.DEFINE_enum(
    'dtype', None, ['float32', 'bfloat16'],
    "Sets Agent.compute_dtype; the configuration's own by default.")
_OBSERVATIONS = flags.DEFINE_string(
    'observations', None, "'4' (numbers), '64x64x3' (an image) or both by a "
    "comma, in place of the environment's.")
_ACTIONS = flags.DEFINE_string(
    'actions', None, "'6' (discrete) or 'box6' (numbers), in place of the "
    "environment's.")
_RUN = flags.DEFINE_bool(
    'run', True, 'Run each StableHLO program once here, and write its inputs '
    'and results beside it.')
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON line.')


def _configure():
  """Gives the configuration of the flags to gin."""
  from dv3 import config
  params = list(FLAGS.gin_param)
  if FLAGS.seed is not None:
    params.append(f'train.seed = {FLAGS.seed}')
  if _DTYPE.value:
    params.append(f"Agent.compute_dtype = '{_DTYPE.value}'")
  if FLAGS.logdir:
    if FLAGS.gin_file:
      raise errors.UserError(
          'give --logdir (a run, with its weights) or --gin_file (a '
          'configuration, with fresh weights), not both')
    config.load(FLAGS.logdir, params, FLAGS.plugin)
  else:
    config.parse(FLAGS.gin_file, params, FLAGS.plugin)


def _restore(update) -> None:
  """Loads the newest checkpoint of --logdir, or the one that it is."""
  import pathlib

  from dv3.training import checkpoints
  from dv3.training import run as run_lib
  kept = checkpoints.Checkpoints(pathlib.Path(FLAGS.logdir) / 'checkpoints')
  folder = checkpoints.alone(FLAGS.logdir) or kept.latest()
  if folder is None:
    raise kept.nothing_whole()
  checkpoints.read_variables(folder, **run_lib.trackables(update))


def main(argv):
  """Exports what the flags ask for."""
  del argv
  if not (_UPDATE.value or _POLICY.value):
    raise errors.UserError('say what to export: --update, --policy or both')
  _configure()
  from dv3.benchmarking import workload as workload_lib
  from dv3.exporting import programs
  workload = workload_lib.make(_OBSERVATIONS.value, _ACTIONS.value)
  # Whatever trained it: a program is one device's, and replicas compute what
  # one device does with the whole batch.
  workload.settings['distribution'] = 'single'
  if _UPDATE.value:
    workload_lib.require_unscaled(workload, '--update')
  update = workload_lib.make_update(workload)
  if FLAGS.logdir:
    _restore(update)
  seed = workload.settings['seed']
  written = {}
  def save(name, program):
    folder = os.path.join(_OUTPUT.value, name)
    program.save(folder)
    written[name] = os.path.abspath(folder)
    if not _JSON.value:
      print(
          f'{name}: {len(program.arguments)} arguments, '
          f'{len(program.results)} results, {os.path.abspath(folder)}')
  if _POLICY.value:
    save('policy', programs.policy(
        update.agent, seed=seed, num_envs=_NUM_ENVS.value,
        mode=_LIKELIEST.value, run=_RUN.value))
    folder = os.path.join(_OUTPUT.value, 'saved_model')
    programs.ServedPolicy(
        update.agent, seed=seed, mode=_LIKELIEST.value).save(folder)
    written['saved_model'] = os.path.abspath(folder)
    if not _JSON.value:
      print(f'saved_model: {os.path.abspath(folder)}')
  if _UPDATE.value:
    batch = workload_lib.batches(workload, update.agent.latent_spec, 1)[0]
    save('gradients', programs.gradients(update, batch, run=_RUN.value))
    save('update', programs.whole_update(update, batch, run=_RUN.value))
  if _JSON.value:
    print(json.dumps(written))


def run():
  """The console script."""
  app.run(main)


if __name__ == '__main__':
  run()
