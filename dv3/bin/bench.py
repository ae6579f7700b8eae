"""dv3-bench: what the parts of a configuration cost on this machine.

  dv3-bench update --gin_file=preset/quickstart.gin --dtype=bfloat16 --profile
  dv3-bench update --gin_file=... --sweep=1m,12m --output=sizes.png
  dv3-bench act|replay|loop|environments|checkpoint --gin_file=... --json

The last line printed is JSON; with --json it is the only one. How to measure
and what the names mean: docs/performance.md.
"""

import errno
import json
import logging
import os
import tempfile
from collections.abc import Sequence

from absl import flags

from dv3 import errors
from dv3 import nearest
from dv3.bin import app
from dv3.bin import compile_cache

FLAGS = flags.FLAGS
_JSON = flags.DEFINE_bool('json', False, 'Print nothing but one JSON line.')
_DTYPE = flags.DEFINE_enum(
    'dtype', None, ['float32', 'bfloat16'],
    "Sets Agent.compute_dtype; the configuration's own by default.")
_REPEATS = flags.DEFINE_integer(
    'repeats', 5, 'Measurements; the median counts.', lower_bound=1)
_WARMUP = flags.DEFINE_integer(
    'warmup', 2, 'Updates between the first one and the timed ones.',
    lower_bound=0)
_SECONDS = flags.DEFINE_float(
    'seconds', 2.0, 'Seconds of one measurement; not for updates and '
    'checkpoints.',
    lower_bound=0.001)
_OBSERVATIONS = flags.DEFINE_string(
    'observations', None, "'4' (numbers), '64x64x3' (an image) or both by a "
    "comma, in place of the environment's. For replay 64x64x3 is the default, "
    "and 'task' means the environment's.")
_ACTIONS = flags.DEFINE_string(
    'actions', None, "'6' (discrete) or 'box6' (numbers), in place of the "
    "environment's.")
_NUM_ENVS = flags.DEFINE_list(
    'num_envs', ['1'], 'Numbers of environments besides the configured one, '
    'for environments.')
_CAPACITY = flags.DEFINE_integer(
    'capacity', 20_000, 'Steps in replay, for replay and checkpoint.',
    lower_bound=1)
_PROFILE = flags.DEFINE_bool(
    'profile', False, 'Time the parts of the update too; compiles each.')
_EXECUTED = flags.DEFINE_bool(
    'executed', False, 'Count the FLOPs of the graph that was timed too, as '
    'traced, before XLA simplifies it.')
_SWEEP = flags.DEFINE_list(
    'sweep', [], 'Sizes (1m,12m) or batch shapes (8x64,16x64) to measure '
    'updates at, each in a process of its own; draws --output.')
_OUTPUT = flags.DEFINE_string(
    'output', 'sweep.png', 'Where --sweep draws cost against size, as PNG.')
_GEMM_SIZE = flags.DEFINE_integer(
    'gemm_size', None, 'Rows of the matrix product that gives the ceiling; '
    '2048 by default, 8192 on a GPU.',
    lower_bound=1)
_COMMANDS_OF = {
    'seconds': ('act', 'replay', 'loop', 'environments'),
    'observations': ('update', 'act', 'replay', 'checkpoint'),
    'actions': ('update', 'act', 'replay', 'checkpoint'),
    'num_envs': ('environments',),
    'capacity': ('replay', 'checkpoint'),
    **dict.fromkeys(
        ('warmup', 'gemm_size', 'profile', 'executed', 'sweep', 'output'),
        ('update',))}
"""Flags that only some commands know."""


def main(argv: Sequence[str]) -> None:
  """Runs one measurement."""
  command, *rest = argv[1:] or ['']
  commands = {
      'update': _update, 'act': _act, 'replay': _replay, 'loop': _loop,
      'environments': _environments, 'checkpoint': _checkpoint}
  if rest or command not in commands:
    if not command:
      raise errors.UserError(
          f'say what to measure: dv3-bench {"|".join(commands)}')
    raise errors.UserError(
        f'there is no measurement {" ".join(argv[1:])!r}; '
        f'{nearest.hint(command, commands, "commands")}')
  _check_flags(command)
  compile_cache.enable(default=False)  # It measures compilation too.
  if _SWEEP.value:
    _sweep()
  else:
    _print(commands[command]())


def _check_flags(command: str) -> None:
  """Refuses what would be ignored."""
  for name, known in _COMMANDS_OF.items():
    if FLAGS[name].present and command not in known:
      raise errors.UserError(
          f'--{name} belongs to dv3-bench {" and ".join(known)}; leave it out '
          f'of {command}')
  if _OUTPUT.present and not _SWEEP.value:
    raise errors.UserError('--output belongs to --sweep; give both or neither')
  if FLAGS.logdir and FLAGS.gin_file and command != 'checkpoint':
    raise errors.UserError(
        'give --logdir (the configuration of a run) or --gin_file, not both')


def _print(result) -> None:
  """Prints the numbers, and the line of JSON."""
  if not _JSON.value:
    _show(result)
  print(json.dumps(result), flush=True)


def _parse():
  """Gives the configuration of the flags to gin, and returns it."""
  from dv3 import config
  params = list(FLAGS.gin_param)
  if FLAGS.seed is not None:
    params.append(f'train.seed = {FLAGS.seed}')
  if _DTYPE.value:
    params.append(f"Agent.compute_dtype = '{_DTYPE.value}'")
  if FLAGS.logdir and not FLAGS.gin_file:
    return config.load(FLAGS.logdir, params, FLAGS.plugin)
  return config.parse(FLAGS.gin_file, params, FLAGS.plugin)


def _workload(observations: str | None):
  """Makes the workload of the flags, with these observations.

  Returns:
    (the workload, how many environments training has).
  """
  parsed = _parse()
  from dv3.benchmarking import workload
  _, num_envs = workload.collector(parsed)
  return workload.make(observations, _ACTIONS.value), num_envs


def _update():
  """Measures updates."""
  workload, _ = _workload(_OBSERVATIONS.value)
  from dv3.benchmarking import profile
  from dv3.benchmarking import update
  from dv3.benchmarking import workload as workload_lib
  workload_lib.require_unscaled(workload, 'dv3-bench update')
  if _PROFILE.value:
    profile.require_one_replica(workload)
  result = update.measure(
      workload, repeats=_REPEATS.value, warmup=_WARMUP.value,
      gemm_size=_GEMM_SIZE.value, executed=_EXECUTED.value)
  if _PROFILE.value:
    found = profile.measure(workload, repeats=_REPEATS.value)
    result['profile_seconds'] = found['wall']
    result['profile_cpu_seconds'] = found['cpu']
  return result


def _act():
  """Measures acting."""
  workload, num_envs = _workload(_OBSERVATIONS.value)
  from dv3.benchmarking import act
  return act.measure(
      workload, configured=num_envs, repeats=_REPEATS.value,
      seconds=_SECONDS.value)


def _replay():
  """Measures replay."""
  chosen = _OBSERVATIONS.value or '64x64x3'
  workload, _ = _workload(None if chosen == 'task' else chosen)
  from dv3.benchmarking import replay
  agent = workload.settings['agent'](
      obs_spec=workload.obs_spec, action_spec=workload.action_spec)
  return replay.measure(
      workload, agent.latent_spec, repeats=_REPEATS.value,
      capacity=_CAPACITY.value, seconds=_SECONDS.value)


def _loop():
  """Measures the training loop."""
  _parse()
  from dv3.benchmarking import loop
  return loop.measure(
      windows=_REPEATS.value, seconds=_SECONDS.value)


def _environments():
  """Measures environments."""
  parsed = _parse()
  from dv3.benchmarking import environments
  return environments.measure(
      parsed, repeats=_REPEATS.value, seconds=_SECONDS.value,
      num_envs=_counts(_NUM_ENVS.value))


def _checkpoint():
  """Measures checkpoints."""
  workload, num_envs = _workload(_OBSERVATIONS.value)
  from dv3.benchmarking import checkpoint
  return checkpoint.measure(
      workload, num_envs=num_envs, repeats=_REPEATS.value,
      capacity=_CAPACITY.value, logdir=FLAGS.logdir)


def _counts(words: Sequence[str]) -> tuple[int, ...]:
  """Returns the numbers of --num_envs."""
  try:
    counts = tuple(int(x) for x in words)
    if min(counts, default=1) > 0:
      return counts
  except ValueError:
    pass
  raise errors.UserError(
      f"--num_envs={','.join(words)} is no list of numbers from 1; for example "
      '--num_envs=1,2,4,8')


def _sweep() -> None:
  """Measures updates at several sizes, prints them and draws them.

  What was measured is printed whatever happens next: it may have taken hours.
  """
  # Where it keeps its font cache, matplotlib tells on first use.
  logging.getLogger('matplotlib').setLevel(logging.ERROR)
  from dv3.benchmarking import sweep
  from dv3.loggers import files
  for label, passed in sweep.parse(_SWEEP.value):
    if FLAGS.logdir and any(x.startswith('--gin_file') for x in passed):
      raise errors.UserError(
          f'--sweep={label} needs the --gin_file of a configuration in place '
          'of --logdir, whose run has a size; or sweep batch shapes (16x64)')
  sweep.load_matplotlib()
  _check_output(_OUTPUT.value)
  rows, picture = [], None
  try:
    for row in sweep.measure(_SWEEP.value, _passed_on()):
      rows.append(row)
      if not _JSON.value:
        print(sweep.describe(row), flush=True)
    picture = os.path.abspath(_OUTPUT.value)
  finally:
    result = sweep.summary(rows)
    if rows:
      _print({**result, 'picture': picture})
  files.write_whole(_OUTPUT.value, sweep.draw(result))


def _check_output(path: str) -> None:
  """Raises UserError where a picture could not be written."""
  from dv3.loggers import files
  try:
    if os.path.isdir(path):
      raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not path.lower().endswith('.png'):
      raise errors.UserError(
          f'--output={path}: a sweep is drawn as PNG; end the name with .png')
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # Permissions alone do not tell, not even root's.
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise files.write_error(path, error) from error


def _passed_on() -> list[str]:
  """Returns the flags that every point of a sweep is measured with."""
  passed = [
      *(f'--gin_file={x}' for x in FLAGS.gin_file),
      *(f'--gin_param={x}' for x in FLAGS.gin_param),
      *(f'--plugin={x}' for x in FLAGS.plugin),
      f'--repeats={_REPEATS.value}', f'--warmup={_WARMUP.value}']
  for name in (
      'dtype', 'observations', 'actions', 'gemm_size', 'seed', 'logdir'):
    if FLAGS[name].value is not None:
      passed.append(f'--{name}={FLAGS[name].value}')
  for flag in (_PROFILE, _EXECUTED):
    if flag.value:
      passed.append(f'--{flag.name}')
  return passed


def _show(result) -> None:
  """Prints numbers for people, one a line."""
  for name, value in result.items():
    if isinstance(value, dict):
      for key, inner in value.items():
        if isinstance(inner, int | float):
          print(f'{name}/{key}: {inner:.5g}')
    elif isinstance(value, float):
      print(f'{name}: {value:.5g}')
    elif not isinstance(value, list):
      print(f'{name}: {value}')


def run() -> None:
  """The console script."""
  app.run(main, positional=True)


if __name__ == '__main__':
  run()
