r"""Trains through exported programs: JAX computes, without TensorFlow.

  dv3-export --gin_file=preset/quickstart.gin --update --policy \
      --output=programs
  JAX_ENABLE_X64=1 PYTHONPATH=. python examples/train_exported.py programs \
      --id=CartPole-v1 --env_steps=8000 --replayed_steps_per_env_step=256 \
      --scores=scores.jsonl

The programs hold the networks, the losses, the optimizer and their numbers;
environment, collector and replay are dv3's, which need no TensorFlow. So a
machine needs JAX with its GPU, gymnasium, gin-config, absl-py, cloudpickle and
pillow. The last line is JSON, with an evaluation by sampled actions.
"""

import argparse
import json
import time

import numpy as np

from dv3 import types
from dv3.collectors import local
from dv3.exporting import jax_runtime
from dv3.replay import replay as replay_lib


class Policy:
  """The exported policy, as collectors call it.

  Args:
    program: a `jax_runtime.Program`.
    variables: {name: array} that it reads, and others.
  """

  def __init__(self, program, variables):
    self._program = program
    self.variables = variables
    inputs = program.inputs()
    self.num_envs = inputs['is_first'].shape[0]
    self._names = [x for x in program.arguments if x.startswith('state/')]
    self._initial = tuple(inputs[name] for name in self._names)
    self._constants = {
        name: value for name, value in inputs.items()
        if name.startswith('constant/')}

  def initial(self, num_envs):
    """Returns the state before the first step."""
    assert num_envs == self.num_envs, 'the program has another --num_envs'
    return self._initial

  def __call__(self, obs, is_first, state, call_index):
    """Returns actions, entries for replay, and the new state."""
    results = self._program({
        **self.variables, **self._constants,
        **{f'obs/{key}': value for key, value in obs.items()},
        **dict(zip(self._names, state, strict=True)),
        'is_first': is_first, 'call_index': np.int64(call_index)})
    actions, entries = (
        {key: np.asarray(value) for key, value in under(results, start)}
        for start in ('actions/', 'entries/'))
    return actions, entries, tuple(results[name] for name in self._names)


def under(results, start):
  """Returns (rest of the name, value) of what has a name that starts so."""
  return [
      (name.removeprefix(start), value) for name, value in results.items()
      if name.startswith(start)]


def train(args):
  """Trains, writes scores, and evaluates."""
  update = jax_runtime.Program(f'{args.programs}/update')
  values = update.variables()
  policy = Policy(
      jax_runtime.Program(f'{args.programs}/policy'), values)
  print(f'compiled in {update.compile_seconds:.1f} s for {update.device}')
  shapes = {x['name']: x['shape'] for x in update.document['arguments']}
  batch_size, batch_length = shapes['batch/reward']
  recipe = types.Recipe('env', 'gymnasium', {'id': args.id})
  collector = local.LocalCollector(
      env=recipe, seed=args.seed, num_envs=policy.num_envs)
  latents = {
      x['name'].removeprefix('batch/'): types.Spec(
          tuple(x['shape'][1:]), x['dtype'])
      for x in update.document['arguments']
      if x['name'].startswith('batch/latent/')}
  specs = {
      **collector.obs_spec, **collector.action_spec, **types.FLAGS, **latents}
  replay = replay_lib.Replay(
      specs, capacity=2 * args.env_steps + 5000, length=batch_length,
      context=1 if latents else 0, seed=args.seed, workers=policy.num_envs,
      batch_size=batch_size)
  credit, updates, seconds = 0.0, 0, 0.0
  begin = time.monotonic()
  with open(args.scores, 'w', encoding='utf-8') as scores:
    while collector.env_steps < args.env_steps:
      before = collector.env_steps
      for episode in collector.run(policy, replay.add, 1):
        print(json.dumps({
            'step': episode.step, 'episode/score': episode.score,
            'episode/length': episode.length}), file=scores, flush=True)
      if len(replay) < batch_size * batch_length:
        continue
      credit += (collector.env_steps - before) * (
          args.replayed_steps_per_env_step / (batch_size * batch_length))
      while credit >= 1:
        credit -= 1
        batch = replay.sample(batch_size)
        start = time.monotonic()
        results = update({
            **values, **{f'batch/{k}': v for k, v in batch.items()}})
        values |= update.new_values(results)
        # Results 1/0: the new latents of the steps that were trained.
        written = {
            key: np.asarray(value) for key, value in under(results, '1/0/')}
        seconds += time.monotonic() - start
        assert results['0/1/finite'], f'update {updates} is not finite'
        replay.write_latents(batch['stepid'], {
            key: value for key, value in written.items() if key in specs})
        updates += 1
  took = time.monotonic() - begin
  collector.close()
  collector = local.LocalCollector(
      env=recipe, seed=args.seed + 1, num_envs=policy.num_envs)
  episodes = collector.evaluate(policy, args.episodes)
  collector.close()
  returns = [episode.score for episode in episodes]
  return {
      'device': update.device.device_kind, 'env_steps': args.env_steps,
      'updates': updates, 'seconds': took, 'seconds_per_update': seconds / max(
          updates, 1), 'mean_return': float(np.mean(returns)),
      'returns': returns}


def main():
  """Reads the arguments and trains."""
  parser = argparse.ArgumentParser(
      description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('programs', help='folder with update and policy')
  parser.add_argument('--id', default='CartPole-v1', help='of gymnasium')
  parser.add_argument('--env_steps', type=int, default=8000)
  parser.add_argument(
      '--replayed_steps_per_env_step', type=float, default=256)
  parser.add_argument(
      '--seed', type=int, default=0, help='of environment and replay')
  parser.add_argument('--episodes', type=int, default=10, help='evaluated')
  parser.add_argument('--scores', default='scores.jsonl')
  print(json.dumps(train(parser.parse_args())))


if __name__ == '__main__':
  main()
