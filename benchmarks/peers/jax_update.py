"""Times the author's own JAX update; runs in an environment of its own.

  python jax_update.py CASE REPEATS --checkout=FOLDER [--dtype=bfloat16]
      [--platform=cuda [--nondeterministic]]

DreamerV3's author has his code of 2025 on GitHub only, and the packages of
that name on PyPI are older ones. FOLDER is therefore a checkout of it, made by

  git clone https://github.com/danijar/dreamerv3

His agent's `train` (world model, actor, critic, optimizer and slow critic,
with his scans) is compiled as one function. It is called on a random batch,
whose one step of replay context is handled as his defaults say. On a GPU he
asks XLA for kernels that give the same bits in each run; --nondeterministic
lets it choose, as it does for dv3. Prints one JSON line.
"""

import argparse
import importlib
import json
import pathlib
import resource
import statistics
import sys
import time

BEGIN = time.time()
CASES = {
    # name: (preset of his, kind of observation)
    '1m-vectors': ('size1m', 'vectors'),
    '1m-images': ('size1m', 'images'),
    '12m-images': ('size12m', 'images'),
    '200m-images': ('size200m', 'images'),
}
FLAGS = ('is_first', 'is_last', 'is_terminal')


def make_config(
    checkout: pathlib.Path, preset: str, dtype: str, platform: str):
  """Returns his configuration; only what the machine asks for is changed."""
  elements = importlib.import_module('elements')
  yaml = importlib.import_module('ruamel.yaml')
  configs = yaml.YAML(typ='safe').load(
      (checkout / 'dreamerv3' / 'configs.yaml').read_text())
  config = elements.Config(configs['defaults']).update(configs[preset])
  return config.update({
      'jax.platform': platform, 'jax.prealloc': False,
      'jax.compute_dtype': dtype})


def make_model(config, kind: str, deterministic: bool):
  """Returns his agent, without what surrounds the update, and its inputs."""
  elements = importlib.import_module('elements')
  np = importlib.import_module('numpy')
  agent = importlib.import_module('dreamerv3.agent')
  outer = importlib.import_module('embodied.jax.agent')
  internal = importlib.import_module('embodied.jax.internal')
  observations = {'reward': elements.Space(np.float32)}
  observations.update({name: elements.Space(bool) for name in FLAGS})
  if kind == 'vectors':
    observations['vector'] = elements.Space(np.float32, (4,))
  else:
    observations['image'] = elements.Space(np.uint8, (64, 64, 3))
  actions = {'action': elements.Space(
      np.int32, (), 0, 2 if kind == 'vectors' else 6)}
  # As his constructor does: what is not an option of the agent sets JAX up.
  options = outer.Options.__dataclass_fields__
  internal.setup(deterministic=deterministic, **{
      name: value for name, value in config.jax.items()
      if name not in options})
  model = object.__new__(agent.Agent)
  model.__init__(observations, actions, elements.Config(
      **config.agent, replay_context=config.replay_context))
  return model, {**observations, **actions, **model.ext_space}


def make_batch(spaces: dict, lead: tuple[int, int]) -> dict:
  """Returns random data; no episode begins or ends in it."""
  np = importlib.import_module('numpy')
  rng = np.random.default_rng(0)
  batch = {}
  for name, space in spaces.items():
    shape = (*lead, *space.shape)
    if name in FLAGS or name == 'consec':  # Every batch is a first chunk.
      values = np.zeros(shape)
    elif name == 'action':
      values = rng.integers(0, space.classes, shape)
    elif space.discrete:
      values = rng.integers(0, 256, shape)
    else:
      values = rng.normal(size=shape)
    batch[name] = values.astype(space.dtype)
  return batch


def main():
  """Runs one case."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('case', choices=sorted(CASES))
  parser.add_argument('repeats', type=int)
  parser.add_argument('--checkout', type=pathlib.Path, required=True)
  parser.add_argument(
      '--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--platform', choices=('cpu', 'cuda'), default='cpu')
  parser.add_argument('--nondeterministic', action='store_true')
  args = parser.parse_args()
  sys.path.insert(0, str(args.checkout.absolute()))
  preset, kind = CASES[args.case]
  config = make_config(args.checkout, preset, args.dtype, args.platform)
  model, spaces = make_model(config, kind, not args.nondeterministic)
  jax = importlib.import_module('jax')
  nj = importlib.import_module('ninjax')
  np = importlib.import_module('numpy')
  size, context = config.batch_size, config.replay_context
  batch = make_batch(spaces, (size, config.batch_length + context))
  rng = np.random.default_rng(config.seed)
  seed = lambda: jax.device_put(rng.integers(
      0, np.iinfo(np.uint32).max, (2,), np.uint32))
  pure = nj.pure(model.train)

  def create(seed, data):
    params, _ = pure(
        {}, model.init_train(len(data['consec'])), data, seed=seed,
        create=True, modify=True, ignore=True)
    return params

  def train(params, seed, carry, data):
    params, outputs = pure(params, carry, data, seed=seed)
    return params, *outputs

  # He donates all but what his policy reads meanwhile; nothing acts here.
  train = jax.jit(train, donate_argnums=0)
  # He makes the parameters on a batch of one, too.
  params = jax.jit(create)(seed(), jax.device_put(
      {name: values[:1] for name, values in batch.items()}))
  carry = jax.jit(lambda: model.init_train(size))()
  seconds = []
  first = 0.0
  for number in range(args.repeats + 2):
    begin = time.perf_counter()
    params, carry, outputs, metrics = train(
        params, seed(), carry, jax.device_put(batch))
    jax.block_until_ready((params, carry, outputs))
    metrics = jax.device_get(metrics)
    seconds.append(time.perf_counter() - begin)
    first = first if number else time.time() - BEGIN
    print(f'update {number + 1}: {seconds[-1]:.2f} s', file=sys.stderr)
  print(f'loss {metrics["opt/loss"]:.3f}', file=sys.stderr)
  print(json.dumps({
      'seconds': statistics.median(seconds[2:]), 'all_seconds': seconds,
      'first_update_seconds': first,
      'peak_rss_bytes': resource.getrusage(
          resource.RUSAGE_SELF).ru_maxrss * 1024,
      'parameters': int(metrics['opt/param_count'])}))


if __name__ == '__main__':
  main()
