"""Times sheeprl's own training function; runs in an environment of its own.

  python sheeprl_update.py CASE REPEATS

sheeprl's command line starts a run whose batches have the shape of ours; the
function that it calls for every update is timed from outside, and the run is
ended when enough were seen. Prints one JSON line.
"""

import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time

BEGIN = time.time()
CASES = {
    # name: (algorithm, environment's flags)
    'xs-vectors': ('dreamer_v3_XS', 'vectors'),
    'xs-images': ('dreamer_v3_XS', 'images'),
    '1m-vectors': ('dreamer_v3_5_1M', 'vectors'),
    '1m-images': ('dreamer_v3_5_1M', 'images'),
    '12m-images': ('dreamer_v3_5_12M', 'images'),
}
SPACES = {
    'vectors': [
        'env=gym', 'env.id=CartPole-v1', 'algo.mlp_keys.encoder=[vector]',
        'algo.mlp_keys.decoder=[vector]', 'algo.cnn_keys.encoder=[]',
        'algo.cnn_keys.decoder=[]'],
    'images': [
        'env=dummy', 'env.id=discrete_dummy', 'env.screen_size=64',
        'algo.mlp_keys.encoder=[]', 'algo.mlp_keys.decoder=[]',
        'algo.cnn_keys.encoder=[rgb]', 'algo.cnn_keys.decoder=[rgb]'],
}


class Done(BaseException):
  """Ends the run; a BaseException, which sheeprl does not catch."""


def main():
  """Runs one case."""
  case, repeats = sys.argv[1], int(sys.argv[2])
  algorithm, spaces = CASES[case]
  form, _, _ = algorithm.rpartition('_')  # dreamer_v3 or dreamer_v3_5.
  module = importlib.import_module(f'sheeprl.algos.{form}.{form}')
  original, seconds, first = module.train, [], []

  def timed(*args, **kwargs):
    begin = time.perf_counter()
    result = original(*args, **kwargs)
    seconds.append(time.perf_counter() - begin)
    first.append(time.time() - BEGIN)
    print(f'update {len(seconds)}: {seconds[-1]:.2f} s', file=sys.stderr)
    if len(seconds) > repeats + 1:
      raise Done
    return result

  module.train = timed
  sys.argv[1:] = [
      f'exp={form}', f'algo={algorithm}', *SPACES[spaces],
      'algo.per_rank_batch_size=16', 'algo.per_rank_sequence_length=64',
      'algo.learning_starts=128', 'algo.replay_ratio=1',
      'algo.total_steps=100000', 'env.num_envs=1', 'env.capture_video=False',
      'env.sync_env=True', 'fabric.accelerator=cpu', 'fabric.devices=1',
      'buffer.size=2000', 'buffer.memmap=False', 'buffer.checkpoint=False',
      'metric.log_level=0', 'checkpoint.every=1000000',
      'checkpoint.save_last=False', 'algo.run_test=False']
  with tempfile.TemporaryDirectory() as folder:
    sys.argv.append(f'root_dir={folder}')
    os.chdir(folder)  # Where its logs go, whatever root_dir says.
    try:
      importlib.import_module('sheeprl.cli').run()
    except Done:
      pass
  print(json.dumps({
      'seconds': statistics.median(seconds[2:]), 'all_seconds': seconds,
      'first_update_seconds': first[0],
      'peak_rss_bytes': resource.getrusage(
          resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == '__main__':
  main()
