"""Compiled functions as StableHLO, for any PJRT runtime.

A program is a folder:

  program.stablehlo   the module, as text
  inputs.npz          arg_0 .. arg_n, one set of arguments
  expected.npz        out_0 .. out_m, what TensorFlow computes from them (both
                      files only if the program was run here)
  program.json        the name, shape and dtype of every argument and result,
                      mean, deviation and range of the arguments, and which
                      result is the new value of which argument

Arguments are the function's tensors, then the variables that it reads; results
are the function's, then the new values of the variables that it writes. Runs
with 64-bit integers enabled (JAX: JAX_ENABLE_X64=1).
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dv3 import errors
from dv3.nets import xla

_ARGUMENT = re.compile(r'%arg(\d+): tensor<([^>]*)>')
_ALIAS = re.compile(
    r'parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>')
_COPY = re.compile(r'mhlo\.copy (%\S+) : (tensor<[^>]*>)')
_TYPES = {
    'f32': 'float32', 'f64': 'float64', 'bf16': 'bfloat16', 'i1': 'bool',
    'i8': 'int8', 'i16': 'int16', 'i32': 'int32', 'i64': 'int64',
    'ui8': 'uint8', 'ui16': 'uint16', 'ui32': 'uint32', 'ui64': 'uint64'}


class Program(NamedTuple):
  """An exported function.

  Attributes:
    text: the StableHLO module.
    arguments: (name, value) in order.
    results: (name, value) in order, as TensorFlow computes them; the values
      are `tf.TensorSpec`s if the program was not run.
    aliases: {number of an argument: number of the result that is its new
      value}.
    gflop: model FLOPs of one call, in 10^9, if known.
  """

  text: str
  arguments: list[tuple[str, np.ndarray]]
  results: list[tuple[str, np.ndarray | tf.TensorSpec]]
  aliases: dict[int, int]
  gflop: float | None = None

  @property
  def was_run(self) -> bool:
    """Whether the results are values."""
    return all(isinstance(x, np.ndarray) for _, x in self.results)

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the program's folder.

    Raises:
      UserError: if it cannot be written.
    """
    document = {
        'arguments': [
            {**_describe(name, x), **_statistics(x)}
            for name, x in self.arguments],
        'results': [_describe(name, x) for name, x in self.results],
        'new_value': {str(k): v for k, v in self.aliases.items()},
        'gflop': self.gflop}
    try:
      os.makedirs(folder, exist_ok=True)
      path = lambda name: os.path.join(folder, name)
      with open(path('program.stablehlo'), 'w', encoding='utf-8') as file:
        file.write(self.text)
      with open(path('program.json'), 'w', encoding='utf-8') as file:
        json.dump(document, file, indent=1)
      if self.was_run:
        _write(path('inputs.npz'), 'arg', self.arguments)
        _write(path('expected.npz'), 'out', self.results)
    except OSError as error:
      raise errors.UserError(
          f'{folder} cannot be written: {error.strerror}; choose another '
          '--output') from error


def _describe(name, value) -> dict[str, Any]:
  dtype = tf.as_dtype(value.dtype).name
  return {'name': name, 'shape': list(value.shape), 'dtype': dtype}


def _statistics(value: np.ndarray) -> dict[str, float]:
  """Returns what is needed to draw a value that is like this one."""
  value = np.asarray(value, np.float64)
  statistics = value.mean(), value.std(), value.min(), value.max()
  names = 'mean', 'deviation', 'least', 'greatest'
  return dict(zip(names, map(float, statistics), strict=True))


def _write(path, prefix, pairs) -> None:
  arrays = {f'{prefix}_{i}': x for i, (_, x) in enumerate(pairs)}
  np.savez(path, allow_pickle=False, **arrays)


def export(
    function, *arguments: Any, names: tuple[str, ...],
    paths: Mapping[Any, str] | None = None, run: bool = True) -> Program:
  """Translates a function to StableHLO, and runs it once.

  Args:
    function: of tensors, with static shapes; it may write variables, which
      then have their new values.
    *arguments: nests of tensors or arrays.
    names: one for each argument, for the document.
    paths: {variable.ref(): name}; those left out have their own.
    run: whether to compile and run it here, which takes the time and the
      memory of one call; without it results are `tf.TensorSpec`s.

  Raises:
    UserError: if the function cannot be compiled as a whole, with the reason.
  """
  arguments = tf.nest.map_structure(tf.convert_to_tensor, arguments)
  def traced(*arguments):
    with xla.exporting():
      return function(*arguments)
  compiled = tf.function(traced, autograph=False, jit_compile=True)
  try:
    concrete = compiled.get_concrete_function(*arguments)
    text = compiled.experimental_get_compiler_ir(*arguments)(
        stage='stablehlo')
    text = _plain(text)
  except (tf.errors.OpError, ValueError, TypeError) as error:
    first = str(error).strip().partition('\n')[0]
    raise errors.UserError(
        f'XLA cannot compile it as a whole: {first}; export on one device, '
        'with parts that have static shapes and no host operations') from error
  variables = {id(v.handle): v for v in concrete.graph.variables}
  paths = paths or {}
  named = lambda variable: (
      f'variable/{paths.get(variable.ref(), variable.name)}')
  # Taken before the function runs, and copied: it may write them in place.
  pairs = [
      (name, _copy(value)) for name, nest in zip(
          names, arguments, strict=True) for name, value in flat(name, nest)]
  captured = []
  for value in concrete.captured_inputs:
    variable = variables.get(id(value))
    captured.append(variable)
    pairs.append(
        (f'constant/{len(pairs)}', _copy(value)) if variable is None
        else (named(variable), _copy(variable)))
  aliases = _check(text, pairs)
  outputs = compiled(*arguments) if run else concrete.structured_outputs
  take = _copy if run else _spec
  offset = len(pairs) - len(captured)
  results = [(name.lstrip('/'), take(x)) for name, x in flat('', outputs)]
  for number, result in sorted(aliases.items(), key=lambda item: item[1]):
    variable = captured[number - offset]
    if result != len(results):
      raise errors.UserError(
          f'the program has {len(results)} results before {variable.name}, '
          f'which is number {result}; it has results that TensorFlow dropped')
    results.append((named(variable), take(variable)))
  return Program(text, pairs, results, aliases)


def _copy(value) -> np.ndarray:
  """Returns a copy of a tensor or variable."""
  return np.array(value.numpy())


def _spec(value) -> tf.TensorSpec:
  return tf.TensorSpec(value.shape, value.dtype)


def flat(name: str, nest) -> list[tuple[str, Any]]:
  """Returns (path, leaf) of a nest, in TensorFlow's order."""
  if isinstance(nest, dict):
    items = [(key, nest[key]) for key in sorted(nest)]
  elif isinstance(nest, tuple) and hasattr(nest, '_fields'):
    items = list(zip(nest._fields, nest, strict=True))  # pyright: ignore
  elif isinstance(nest, tuple | list):
    items = list(enumerate(nest))
  else:
    return [(name, nest)]
  return [pair for key, x in items for pair in flat(f'{name}/{key}', x)]


def _plain(text: str) -> str:
  """Replaces what is not StableHLO.

  TensorFlow copies a variable that it returns as it is, with an operation that
  other translators do not know (JAX 0.11 refuses it). A reshape to the same
  shape is one.
  """
  return _COPY.sub(r'stablehlo.reshape \1 : (\2) -> \2', text)


def _check(text: str, pairs) -> dict[int, int]:
  """Compares the module's arguments with ours; returns its aliases."""
  start = text.index('@main(')
  header = text[start: text.index('\n', start)]
  found = _ARGUMENT.findall(header.split('->')[0])
  if len(found) != len(pairs):
    raise errors.UserError(
        f'the program has {len(found)} arguments where {len(pairs)} were '
        'given; TensorFlow has dropped or added some')
  for (number, kind), (name, value) in zip(found, pairs, strict=True):
    *shape, dtype = kind.split('x')
    if (tuple(map(int, shape)), _TYPES.get(dtype)) != (
        value.shape, value.dtype.name):
      raise errors.UserError(
          f'argument {number} of the program is tensor<{kind}>, not '
          f'{value.dtype.name} {value.shape} as {name}')
  module = next(
      line for line in text.splitlines() if line.startswith('module @'))
  return {int(x): int(y) for x, y in _ALIAS.findall(module)}
