r"""Times exported updates on an accelerator, with JAX in TensorFlow's place.

  dv3-export --gin_file=... --update --norun --output=programs   # anywhere
  export JAX_ENABLE_X64=1 PYTHONPATH=.
  python benchmarks/accelerator/time_programs.py programs/update \
      --precision=highest,tf32 --profile

Programs (folders, or a .tar.gz of one folder's files) are compiled and timed
one after the other, so that what is timed has the machine to itself. New values
of variables are fed back, as in training. For each program and precision one
JSON line, as soon as it is there:

  seconds               median; variables and batch on the device, results left
                        there, updates one after the other without waiting
  seconds_with_batch    the same with the batch from host memory each time
  floor_flops_seconds   model FLOPs over this device's rate of a large matrix
                        product in the same precision, measured in this run
  floor_bytes_seconds   every argument read once and every result written once,
                        over the rate of a large copy, measured in this run
  peak_bytes            of this process so far
  busy_seconds          with --profile: time with a kernel running
  kernels               with --profile: how many ran in one update
  by_count              with --profile: seconds by how often a kernel runs in an
                        update: 'x64' are the steps of filtering, 'x15' those
                        of imagination
  by_kind               with --profile: seconds by kind of kernel
"""

import argparse
import collections
import glob
import gzip
import json
import os
import tempfile
import time

os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')

import jax
import jax.numpy as jnp
import numpy as np

from dv3.exporting import jax_runtime

_KINDS = (
    ('copy', ('memcpy', 'memset')),
    ('convolution', (
        'conv', 'cudnn', 'fprop', 'dgrad', 'wgrad', 'implicit', 'nchw',
        'nhwc')),
    ('product', ('gemm', 'dot', 'cutlass', 'cublas', 'nvjet', 'splitk')),
    ('transposition', ('transpose',)),
    ('reduction', ('reduce', 'reduction')))


def ceilings(size=8192):
  """Returns this device's best rates: FLOP/s by precision, and bytes/s."""
  key = jax.random.PRNGKey(0)
  if jax.default_backend() == 'cpu':
    size //= 4
  def rate(function, work, *arguments):
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(10):
      begin = time.perf_counter()
      jax.block_until_ready(function(*arguments))
      times.append(time.perf_counter() - begin)
    return work / np.median(times)
  found = {}
  for name, dtype, precision in (
      ('highest', jnp.float32, 'highest'), ('tf32', jnp.float32, None),
      ('bfloat16', jnp.bfloat16, None)):
    x = jax.random.normal(key, (size, size), dtype)
    product = jax.jit(lambda x, p=precision: jnp.matmul(x, x, precision=p))
    found[name] = rate(product, 2 * size ** 3, x)
  x = jax.random.normal(key, (size ** 2 * 8,), jnp.float32)
  found['bytes'] = rate(jax.jit(lambda x: x + 1), 2 * x.nbytes, x)
  return found


class Loop:
  """Updates that feed themselves.

  Args:
    program: a `jax_runtime.Program`.
  """

  def __init__(self, program):
    self._program = program
    values = program.inputs()
    self._batch = {
        name: np.asarray(value) for name, value in values.items()
        if name.startswith('batch/')}
    self.values = values
    self.results = {}

  def run(self, count, transfer):
    """Returns the seconds of one update, of so many in a row."""
    jax.block_until_ready(self.values)
    begin = time.perf_counter()
    for _ in range(count):
      batch = self._batch if transfer else {}
      self.results = self._program({**self.values, **batch})
      self.values = {
          **self.values, **self._program.new_values(self.results)}
    jax.block_until_ready(self.results)
    return (time.perf_counter() - begin) / count


def profile(loop, count=3):
  """Returns what kernels took in one update, and the longest of them."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      loop.run(count, transfer=False)
    path, = glob.glob(f'{folder}/**/*.xplane.pb', recursive=True)
    data = jax.profiler.ProfileData.from_file(path)
    events = [
        (event.name, event.start_ns, event.duration_ns)
        for plane in data.planes if plane.name.startswith('/device:GPU')
        for line in plane.lines if line.name.startswith('Stream')
        for event in line.events]
  kernels = collections.defaultdict(lambda: [0, 0.0])
  busy, end = 0.0, 0.0
  for name, begin, length in sorted(events, key=lambda event: event[1]):
    kernels[name][0] += 1
    kernels[name][1] += length * 1e-9
    busy += max(0.0, begin + length - max(begin, end))
    end = max(end, begin + length)
  by_count, by_kind = collections.Counter(), collections.Counter()
  for name, (times, seconds) in kernels.items():
    by_count[f'x{round(times / count)}'] += seconds / count
    by_kind[_kind(name)] += seconds / count
  longest = sorted(kernels.items(), key=lambda item: -item[1][1])[:40]
  return {
      'busy_seconds': busy * 1e-9 / count,
      'kernels': len(events) / count,
      'by_count': dict(by_count.most_common(10)),
      'by_kind': dict(by_kind.most_common())}, [
          (seconds / count, times / count, name)
          for name, (times, seconds) in longest]


def _kind(name):
  """Returns the kind of a kernel, by its name."""
  lower = name.lower()
  for kind, parts in _KINDS:
    if any(part in lower for part in parts):
      return kind
  return 'elementwise'


def _value(text):
  """Returns an option's value; the compiler takes no words for booleans."""
  words = {'true': True, 'false': False}
  return words.get(text.lower(), int(text) if text.isdecimal() else text)


def _programs(args, options):
  """Yields (folder, precision, program), compiled when it is asked for."""
  for folder in args.programs:
    for precision in args.precision.split(','):
      program = jax_runtime.Program(
          folder, 'highest' if precision == 'highest' else None, options)
      if program.low_precision:
        yield folder, 'bfloat16', program
        break
      yield folder, precision, program


def main():
  """Times all programs."""
  parser = argparse.ArgumentParser(
      description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('programs', nargs='+')
  parser.add_argument(
      '--precision', default='tf32',
      help='of float32 programs: highest, tf32 or both by a comma')
  parser.add_argument('--repeats', type=int, default=20)
  parser.add_argument('--profile', action='store_true')
  parser.add_argument('--longest', action='store_true', help='list kernels')
  parser.add_argument(
      '--option', action='append', default=[],
      help='name=value of an option of the compiler; repeatable')
  parser.add_argument(
      '--optimized', metavar='FOLDER',
      help="write the compiler's results there")
  args = parser.parse_args()
  unknown = set(args.precision.split(',')) - {'highest', 'tf32'}
  if unknown:  # Before anything is compiled, which takes minutes.
    parser.error(
        f'--precision={args.precision}: {sorted(unknown)[0]!r} is not known; '
        'choose highest, tf32 or both by a comma')
  options = {
      name: _value(text) for name, _, text in (
          option.partition('=') for option in args.option)}
  rates = ceilings()
  device = jax.devices()[0]
  print(json.dumps({
      'device': device.device_kind, 'jax': jax.__version__,
      **{f'ceiling_{name}': rate for name, rate in rates.items()}}),
      flush=True)
  for folder, precision, program in _programs(args, options):
    if args.optimized:
      name = folder.strip('/').removesuffix('.tar.gz').replace('/', '-')
      path = os.path.join(args.optimized, f'{name}.{precision}.hlo.gz')
      os.makedirs(args.optimized, exist_ok=True)
      with gzip.open(path, 'wt') as file:
        file.write(program.optimized())
    loop = Loop(program)
    loop.run(2, transfer=True)
    each = max(1, args.repeats // 5)
    plain, whole = (
        float(np.median([loop.run(each, transfer) for _ in range(5)]))
        for transfer in (False, True))
    finite = [
        float(value) for name, value in loop.results.items()
        if name.endswith('/finite')]
    gflop = program.document['gflop']
    line = {
        'program': folder, 'precision': precision, 'options': options,
        'seconds': plain, 'seconds_with_batch': whole,
        'floor_flops_seconds': gflop and gflop * 1e9 / rates[precision],
        'floor_bytes_seconds': program.num_bytes / rates['bytes'],
        'gflop': gflop, 'finite': finite,
        'compile_seconds': program.compile_seconds,
        'peak_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use')}
    if args.profile:
      found, longest = profile(loop)
      line |= found
      if args.longest:
        for seconds, times, name in longest:
          print(f'{seconds * 1e3:9.3f} ms x{times:<7.4g} {name[:110]}')
    print(json.dumps(line), flush=True)
    del loop, program  # Before the next one is compiled.


if __name__ == '__main__':
  main()
