"""dv3-envcheck: looks at an environment as training would see it.

Builds the environment of a configuration in a worker process, plays random
actions, and tells what the agent would observe and do. An environment that
raises, dies or hangs ends it with the place of the error.
"""

import hashlib
import json
import time

import numpy as np
from absl import flags

from dv3.bin import app

FLAGS = flags.FLAGS
_STEPS = flags.DEFINE_integer(
    'steps', 500, 'Env steps to play with random actions.', lower_bound=1)
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON document.')


def play(recipe, seed: int, steps: int):
  """Plays random actions.

  Returns:
    (collector, closed; episodes; digest of all that was seen; seconds).
  """
  from dv3.collectors import local
  from dv3.collectors import random_policy
  # Training would go on after an error; here each one is shown.
  collector = local.LocalCollector(env=recipe, seed=seed, max_restarts=0)
  digest = hashlib.sha256()
  def sink(rows, workers):
    del workers
    for name in sorted(rows):
      digest.update(np.ascontiguousarray(rows[name]).tobytes())
  try:
    policy = random_policy.RandomPolicy(collector.action_spec, seed)
    collector.run(policy, sink, 1)  # The processes' start is not timed.
    begin = time.perf_counter()
    episodes = collector.run(policy, sink, steps)
    seconds = time.perf_counter() - begin
  finally:
    collector.close()
  return collector, episodes, digest.hexdigest(), seconds


def _bound(values, outer):
  """Returns the outermost of an entry's bounds, None where it has none."""
  return outer(values) if values is not None else None


def check(recipe, seed: int, steps: int) -> dict:
  """Returns what `--json` prints."""
  collector, episodes, first, seconds = play(recipe, seed, steps)
  *_, second, _ = play(recipe, seed, steps)
  describe = lambda spec: {
      'shape': list(spec.shape), 'dtype': spec.dtype,
      'classes': list(spec.classes) if spec.classes is not None else None,
      'low': _bound(spec.low, min), 'high': _bound(spec.high, max)}
  return {
      'environment': f'{recipe.kind}.{recipe.name}',
      'arguments': {k: repr(v) for k, v in recipe.kwargs.items()},
      'observations': {
          name: {**describe(spec), 'encoder': (
              'image' if spec.is_image else 'vector')}
          for name, spec in collector.obs_spec.items()},
      'actions': {
          name: describe(spec) for name, spec in collector.action_spec.items()},
      'env_steps_per_second': steps / seconds,
      'episodes': len(episodes),
      'returns': [episode.score for episode in episodes],
      'lengths': [episode.length for episode in episodes],
      'repeats_with_equal_seeds': first == second}


def _range(spec) -> str:
  """Words an entry's bounds."""
  low, high = spec['low'], spec['high']
  if low is None and high is None:
    return ''
  show = lambda x, none: none if x is None else f'{x:g}'
  return f'from {show(low, "-inf")} to {show(high, "inf")}'


def main(argv):
  """Checks the environment of the configuration."""
  del argv
  import gin

  from dv3 import config
  if FLAGS.logdir:
    app.refuse_flags(
        'gin_file', because='--logdir brings the configuration of its run; '
        'give one of the two, and single bindings with --gin_param')
    config.load(FLAGS.logdir, list(FLAGS.gin_param), FLAGS.plugin)
  else:
    config.parse(FLAGS.gin_file, list(FLAGS.gin_param), FLAGS.plugin)
  recipe = gin.get_bindings('dv3.train')['env']()
  found = check(recipe, FLAGS.seed or 0, _STEPS.value)
  if _JSON.value:
    print(json.dumps(found))
    return
  print(' '.join([
      found['environment'],
      *(f'{k}={v}' for k, v in found['arguments'].items())]))
  for kind in ('observations', 'actions'):
    for name, spec in found[kind].items():
      classes = f', classes {spec["classes"]}' if spec['classes'] else ''
      bounds = f', {_range(spec)}' if _range(spec) else ''
      encoder = f' -> {spec["encoder"]} encoder' if 'encoder' in spec else ''
      print(
          f'  {name}: {spec["dtype"]} {spec["shape"]}'
          f'{classes}{bounds}{encoder}')
  print(
      f'{found["env_steps_per_second"]:.0f} env steps/s in one worker; '
      f'{found["episodes"]} episodes ended')
  if not found['repeats_with_equal_seeds']:
    print(
        'equal seeds gave different episodes: a resumed run truncates the '
        'episode it was in')


def run():
  """The console script."""
  app.run(main)


if __name__ == '__main__':
  run()
