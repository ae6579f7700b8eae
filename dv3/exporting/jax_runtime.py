"""Runs exported programs with JAX, without TensorFlow and the rest of dv3.

  JAX_ENABLE_X64=1 python -m dv3.exporting.jax_runtime programs/update

runs a program once, compares its results with TensorFlow's, leaves them in
found.npz and says how long one call takes. The file needs jax and NumPy alone
and may be copied elsewhere; `Program` is for loops of one's own:

  update = Program('programs/update')
  values = update.variables()
  results = update({**values, **batch})      # names as in program.json
  values |= update.new_values(results)

Checked with JAX 0.10.2 and 0.11.2, of which it uses internal names: StableHLO
modules have no public way in.
"""

# JAX is no dependency of dv3.
# pyright: reportMissingImports=false

import argparse
import concurrent.futures
import io
import json
import pathlib
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

try:
  import jax
  from jax._src import xla_bridge
  from jax._src.interpreters import mlir
  from jax._src.lib import xla_client
  from jaxlib import _jax
  from jaxlib.mlir import ir
except ImportError as error:
  _NEEDED = (
      f'programs run with JAX here ({error}); install it, best in an '
      'environment of its own: pip install jax==0.10.2')
  if __name__ == '__main__':
    sys.exit(_NEEDED)
  raise ImportError(_NEEDED) from error


class Program:
  """A compiled program on JAX's first device.

  Args:
    folder: what `dv3-export` wrote; or a .tar.gz of the folder's files.
    precision: None multiplies float32 as the compiler likes best, on NVIDIA
      GPUs in TensorFloat-32; 'highest' multiplies in float32.
    options: {option of XLA's compiler: value}.

  Attributes:
    document: what program.json holds.
    arguments: names of the arguments, in order.
    results: names of the results, in order.
    low_precision: whether the program computes in bfloat16.
    compile_seconds: how long the compiler took.
    device: where it runs.

  Raises:
    RuntimeError: if JAX would cut 64-bit integers to 32 bits.
  """

  def __init__(
      self, folder, precision: str | None = None,
      options: Mapping[str, Any] | None = None):
    if not jax.config.jax_enable_x64:
      raise RuntimeError(
          'programs hold 64-bit counters, which JAX cuts to 32 bits; set the '
          'environment variable JAX_ENABLE_X64=1')
    text, self.document, self._inputs = _read(pathlib.Path(folder))
    self.arguments = [x['name'] for x in self.document['arguments']]
    self.results = [x['name'] for x in self.document['results']]
    self.low_precision = 'xbf16>' in text
    if precision == 'highest':
      # Of products, then of convolutions.
      text = text.replace(
          'precision = [DEFAULT, DEFAULT]', 'precision = [HIGHEST, HIGHEST]')
      text = text.replace('precision DEFAULT', 'precision HIGHEST')
    code = io.BytesIO()
    with mlir.make_ir_context():
      ir.Module.parse(text).operation.write_bytecode(code)
    chosen = xla_client.CompileOptions()
    chosen.env_option_overrides = list((options or {}).items())
    backend = xla_bridge.get_backend()
    self.device = backend.local_devices()[0]
    begin = time.perf_counter()
    self._executable = backend.compile_and_load(
        code.getvalue(), _jax.DeviceList((self.device,)), chosen)
    self.compile_seconds = time.perf_counter() - begin

  def inputs(self, seed: int = 0) -> dict[str, jax.Array]:
    """Returns a set of arguments on the device.

    Args:
      seed: of random ones, which have the mean, deviation and range that
        program.json states. Not used where the program has inputs.npz.
    """
    values = self._inputs
    if values is None:
      entries = self.document['arguments']
      rngs = np.random.default_rng(seed).spawn(len(entries))
      with concurrent.futures.ThreadPoolExecutor() as pool:
        values = list(pool.map(_draw, rngs, entries))
    return dict(zip(
        self.arguments, jax.device_put(values, self.device), strict=True))

  def variables(self, seed: int = 0) -> dict[str, jax.Array]:
    """Returns the arguments that are variables or constants of the program."""
    return {
        name: value for name, value in self.inputs(seed).items()
        if name.startswith(('variable/', 'constant/'))}

  def __call__(self, values: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Runs the program, without waiting for it.

    Args:
      values: {name: array}, one for each argument; others are ignored. Those
        that `new_values` replaces are used up: results may lie in their place.

    Returns:
      {name: result}.
    """
    buffers = [values[name] for name in self.arguments]
    buffers = [
        x if isinstance(x, jax.Array) else jax.device_put(x, self.device)
        for x in buffers]
    parts = self._executable.execute_sharded(buffers)
    arrays = parts.disassemble_into_single_device_arrays()
    return dict(zip(self.results, (x for x, in arrays), strict=True))

  def new_values(self, results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {argument: result} of what the program wrote."""
    return {
        self.arguments[int(argument)]: results[self.results[result]]
        for argument, result in self.document['new_value'].items()}

  def optimized(self) -> str:
    """Returns what the compiler made of the program, as its text."""
    return self._executable.hlo_modules()[0].to_string()

  @property
  def num_bytes(self) -> int:
    """Bytes of all arguments and results."""
    return sum(
        int(np.prod(entry['shape'])) * _dtype(entry['dtype']).itemsize
        for name in ('arguments', 'results') for entry in self.document[name])


def _read(path: pathlib.Path):
  """Returns the module's text, the document and the inputs, if any."""
  with tempfile.TemporaryDirectory() as unpacked:
    if path.suffixes[-2:] == ['.tar', '.gz']:
      with tarfile.open(path) as archive:
        archive.extractall(unpacked, filter='data')
      path = pathlib.Path(unpacked)
    text = (path / 'program.stablehlo').read_text()
    document = json.loads((path / 'program.json').read_text())
    inputs = None
    if (path / 'inputs.npz').exists():
      with np.load(path / 'inputs.npz') as saved:
        inputs = [saved[f'arg_{i}'] for i in range(len(saved.files))]
    return text, document, inputs


def _dtype(name: str) -> np.dtype:
  return np.dtype(jax.numpy.dtype(name))


def _draw(rng, entry) -> np.ndarray:
  """Returns an array like the one that program.json describes."""
  shape, dtype = entry['shape'], _dtype(entry['dtype'])
  least, greatest = entry['least'], entry['greatest']
  if least == greatest:
    return np.full(shape, least, dtype)
  if dtype.kind == 'b':
    return rng.random(shape) < entry['mean']
  if np.issubdtype(dtype, np.integer):
    return rng.integers(
        int(least), int(greatest), shape, dtype, endpoint=True)
  values = rng.standard_normal(shape, np.float32)
  values = values * entry['deviation'] + entry['mean']
  return np.clip(values, least, greatest).astype(dtype)


def _compare(folder: pathlib.Path, program, results) -> str:
  """Returns a line about TensorFlow's results, if there are any."""
  if not (folder / 'expected.npz').exists():
    return 'no expected.npz to compare with'
  with np.load(folder / 'expected.npz') as saved:
    worst, where = 0.0, '-'
    for i, name in enumerate(program.results):
      expected = saved[f'out_{i}'].astype(np.float64)
      found = np.asarray(results[name]).astype(np.float64)
      # Relative to a result's own size, which rounding is relative to.
      scale = max(1e-6, float(np.abs(expected).max(initial=0.0)))
      difference = float(np.abs(found - expected).max(initial=0.0)) / scale
      if not difference <= worst:
        worst, where = difference, name
  return f'greatest relative difference {worst:.2g}, in {where}'


def main() -> None:
  """Runs one program."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--precision', choices=['highest'])
  parser.add_argument('--repeats', type=int, default=20)
  args = parser.parse_args()
  try:
    program = Program(args.folder, args.precision)
  except OSError as error:
    sys.exit(
        f'{error.filename}: {error.strerror}; give a folder that dv3-export '
        'wrote')
  except RuntimeError as error:
    sys.exit(str(error))
  results = jax.block_until_ready(program(program.inputs()))
  found = {
      f'out_{i}': np.asarray(results[name])
      for i, name in enumerate(program.results)}
  np.savez(args.folder / 'found.npz', allow_pickle=False, **found)
  print(_compare(args.folder, program, results))
  times = []
  for _ in range(args.repeats):
    values = jax.block_until_ready(program.inputs())
    begin = time.perf_counter()
    jax.block_until_ready(program(values))
    times.append(time.perf_counter() - begin)
  print(
      f'{program.device.device_kind}, JAX {jax.__version__}: '
      f'{np.median(times):.4g} s a call, compiled in '
      f'{program.compile_seconds:.1f} s')


if __name__ == '__main__':
  main()
