"""dv3-eval: plays episodes with the agent of a run.

--logdir is the run, of which it takes the newest whole checkpoint, or the
folder of one checkpoint, runs/<name>/checkpoints/step-<env steps>.
"""

import json
import os

from absl import flags

from dv3 import errors
from dv3.bin import app
from dv3.bin import compile_cache

FLAGS = flags.FLAGS
_EPISODES = flags.DEFINE_integer(
    'episodes', 10, 'Episodes to play to their end.', lower_bound=1)
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON line.')
_LIKELIEST = flags.DEFINE_bool(
    'likeliest', None, 'Take the likeliest actions in place of samples; '
    'without this flag evaluate.likeliest decides.')
_VIDEO = flags.DEFINE_string(
    'video', None, 'A .gif to write: the first episode, as the first image '
    'observation shows it.')


def main(argv):
  """Evaluates the newest checkpoint of --logdir, or the one that it is.

  With the run's own configuration, unless --gin_file gives another, of the same
  networks.
  """
  del argv
  if not FLAGS.logdir:
    raise errors.UserError('no run was named; give --logdir=runs/<name>')
  compile_cache.enable()
  import gin

  from dv3 import config
  settings = {
      'params': list(FLAGS.gin_param), 'plugins': FLAGS.plugin,
      'roots': ('dv3.evaluate', 'dv3.train')}
  if FLAGS.gin_file:
    config.parse(FLAGS.gin_file, **settings)
  else:
    config.load(FLAGS.logdir, **settings)
  # A flag that was not given must not hide what the configuration says.
  chosen = {} if _LIKELIEST.value is None else {'likeliest': _LIKELIEST.value}
  result = gin.get_configurable('dv3.evaluate')(
      logdir=FLAGS.logdir, episodes=_EPISODES.value, video=_VIDEO.value,
      seed=1 if FLAGS.seed is None else FLAGS.seed, **chosen)
  if _JSON.value:
    print(json.dumps(result))
    return
  print(
      f'return {result["mean_return"]:.2f} +- {result["std_return"]:.2f}, '
      f'length {result["mean_length"]:.1f} over {result["episodes"]} episodes '
      f'at {result["env_steps"]:,} env steps')
  if _VIDEO.value:
    print(f'wrote {os.path.abspath(_VIDEO.value)}')


def run():
  """The console script."""
  app.run(main, program='dv3-eval')


if __name__ == '__main__':
  run()
