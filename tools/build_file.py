"""Writes BUILD from the tree: which files there are, and what they import.

  python tools/build_file.py          # or: make build-file

A folder of `dv3/`, or a module beside them, is a library; a file of `dv3/bin/`
that runs is a binary under the name of its console script; a test file is a
test. `tests/build_file_test.py` reads BUILD and says where it is not true.

Dependencies are imports. Two kinds are left out, for Bazel allows no cycles: an
import inside a function that leads back to its own library, and what the
registry, `dv3.config` and `dv3` import by name. The library `:parts` is all of
these; whatever runs and reaches the registry has it as data.
"""

import ast
import functools
import pathlib
import re
import tomllib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).absolute().parents[1]
FOLDERS = ('dv3', 'tests', 'tools', 'examples', 'benchmarks')
TOP_FILES = ('BUILD', 'Makefile', 'README.md', 'pyproject.toml')
"""Files of the root that tests read."""

HEADER = '''\
"""Libraries, binaries and tests; `make build-file` writes this file."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library")
load("//:tools/pytest.bzl", "pytest_test")

package(default_visibility = ["//visibility:public"])

# No Python file may lie under gin/: Bazel would make a package gin of it.
filegroup(
    name = "gin_files",
    srcs = glob(["gin/**/*.gin"]),
)

filegroup(
    name = "golden_files",
    srcs = glob(["tests/golden/*.npz"]),
)

filegroup(
    name = "sources",
    srcs = ["BUILD"] + glob([
        "dv3/**/*.py",
        "tests/**/*.py",
        "tools/**/*.py",
        "examples/**/*.py",
        "benchmarks/**/*.py",
        "docs/*.md",
        "examples/plugin/*",
        "tests/**/*.gin",
    ]),
)
'''


class Import(NamedTuple):
  """One import of a file.

  Attributes:
    module: what is imported, with its full name; `a.b` for `from a import b`
      where b may be a module or a name in one.
    late: whether it stands inside a function.
  """

  module: str
  late: bool


class Target(NamedTuple):
  """One rule of BUILD.

  Attributes:
    rule: the name of the rule.
    name: the name of the target.
    srcs: paths of its files, from the root.
    deps: labels of other targets.
    data: labels and files that it needs when it runs.
  """

  rule: str
  name: str
  srcs: tuple[str, ...]
  deps: tuple[str, ...] = ()
  data: tuple[str, ...] = ()


@functools.cache
def files() -> list[str]:
  """Returns the paths of all Python files of the project, from the root."""
  found = [
      path.relative_to(ROOT) for folder in FOLDERS
      for path in (ROOT / folder).rglob('*.py')]
  return sorted(
      path.as_posix() for path in found
      if not any(part.startswith('.') for part in path.parts))


@functools.cache
def other_files() -> list[str]:
  """Returns the paths of what else programs and tests may read."""
  patterns = (
      'docs/*.md', 'tests/**/*.gin', 'examples/*/*.gin', 'examples/*/*.md',
      'examples/*/*.toml')
  return sorted([*TOP_FILES, *(
      path.relative_to(ROOT).as_posix()
      for pattern in patterns for path in ROOT.glob(pattern))])


@functools.cache
def tree(path: str) -> ast.Module:
  """Returns the syntax tree of a file."""
  return ast.parse((ROOT / path).read_text(encoding='utf-8'))


@functools.cache
def imports(path: str) -> tuple[Import, ...]:
  """Returns the imports of a file, late ones too."""
  return tuple(_walk(tree(path), False))


def _walk(node: ast.AST, late: bool) -> Iterator[Import]:
  if isinstance(node, ast.Import):
    yield from (Import(alias.name, late) for alias in node.names)
  elif isinstance(node, ast.ImportFrom):
    assert node.level == 0, 'imports have full names'
    yield from (
        Import(f'{node.module}.{alias.name}', late) for alias in node.names)
  elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'dv3':
    yield Import(ast.unparse(node), late)  # Loaded by dv3/__init__.py.
  late = late or isinstance(node, ast.FunctionDef)
  for child in ast.iter_child_nodes(node):
    yield from _walk(child, late)


@functools.cache
def modules() -> dict[str, str]:
  """Returns the path of each module; those outside dv3 go by their stem."""
  found = {}
  for path in files():
    name = path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
    found[name if name.startswith('dv3') else name.rpartition('.')[2]] = path
  return found


def module(name: str) -> str | None:
  """Returns the path of our module that a full name lies in, or None."""
  name = public_names().get(name, name)
  while name and name not in modules():
    name = name.rpartition('.')[0]
  return modules().get(name)


def runs(path: str) -> bool:
  """Returns whether a file is a program."""
  return any(
      isinstance(node, ast.If) and '__main__' in ast.unparse(node.test)
      for node in tree(path).body)


@functools.cache
def project() -> dict:
  """Returns the project's table in pyproject.toml."""
  return tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


@functools.cache
def scripts() -> dict[str, str]:
  """Returns the name of the console script of each binary's file."""
  return {
      entry.partition(':')[0].replace('.', '/') + '.py': name
      for name, entry in project()['scripts'].items()}


@functools.cache
def place(path: str) -> tuple[str, str]:
  """Returns the rule and the name of the target that a file belongs to."""
  folders, stem = path.split('/')[:-1], pathlib.PurePath(path).stem
  if stem.endswith('_test') and folders[0] == 'tests':
    return 'pytest_test', stem
  if folders[0] == 'dv3':
    if path in scripts():
      return 'py_binary', scripts()[path]
    if folders == ['dv3']:
      return 'py_library', 'dv3' if stem == '__init__' else stem
    return 'py_library', folders[1]
  if stem == 'conftest':
    return 'py_library', '_'.join([*folders, stem])
  if runs(path):
    return 'py_binary', stem
  return 'py_library', '_'.join(folders)


@functools.cache
def mentions(path: str) -> set[str]:
  """Returns our files that the strings of a program or test name.

  They start other programs, tests apart, and read files: 'dv3.bin.train',
  'from dv3 import errors', 'small_program.py', 'pyproject.toml', and all of a
  folder: 'examples/plugin'.
  """
  found = set()
  nodes = list(ast.walk(tree(path)))
  docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
  for node in nodes:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)
            and id(node) not in docs):
      continue
    text = re.sub(r'\bfrom (dv3[\w.]*) import ', r'\1.', node.value)
    found |= {module(name) for name in re.findall(r'\bdv3(?:\.\w+)+', text)}
    others = other_files()
    found |= {node.value} & set(others) or {
        other for other in others if other.endswith(f'/{node.value}')}
    if re.fullmatch(r'\w+(?:/\w+)+', node.value):
      found |= {
          file for file in (*files(), *others)
          if file.startswith(f'{node.value}/') and not file.startswith('dv3/')}
    if re.fullmatch(r'[\w/]+\.py', node.value):
      found.add(module(pathlib.PurePath(node.value).stem))
  return {
      name for name in found
      if name and name != path and not name.endswith('_test.py')}


def constant(path: str, name: str):
  """Returns the value of a constant of a file."""
  for node in tree(path).body:
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
      return ast.literal_eval(node.value)
  raise ValueError(f'{path} has no constant {name}')


@functools.cache
def public_names() -> dict[str, str]:
  """Returns the module of each name that `dv3` loads when it is first used."""
  return {
      f'dv3.{name}': home
      for name, home in constant('dv3/__init__.py', '_NAMES').items()}


def parts() -> set[str]:
  """Returns the files that others import by their names."""
  homes = [
      *constant('dv3/registry.py', 'TABLE').values(),
      *constant('dv3/config/configuration.py', 'MODULES'),
      *public_names().values()]
  return {path for path in map(module, homes) if path}


def edges(late: bool = True) -> dict[str, set[str]]:
  """Returns which targets the imports of each target lead to."""
  found: dict[str, set[str]] = {}
  for path in files():
    name = place(path)[1]
    reached = found.setdefault(name, set())
    for item in imports(path):
      target = module(item.module)
      if target and (late or not item.late):
        reached.add(place(target)[1])
        if target.startswith('dv3/'):
          reached.add('dv3')  # A module's import imports its package.
    reached |= {place(name)[1] for name in loaded_by_pytest(path)}
    reached.discard(name)
  return found


def loaded_by_pytest(path: str) -> list[str]:
  """Returns the files that pytest loads with a test: conftests, our plugin."""
  if place(path)[0] != 'pytest_test':
    return []
  folders = [parent.as_posix() for parent in pathlib.PurePath(path).parents]
  plugins = project().get('entry-points', {}).get('pytest11', {}).values()
  return [
      *(f'{f}/conftest.py' for f in folders if f'{f}/conftest.py' in files()),
      *(modules()[plugin] for plugin in plugins)]


def closure(graph: dict[str, set[str]], start: Iterable[str]) -> set[str]:
  """Returns all that a graph reaches from some of its nodes, these included."""
  found, waiting = set(), list(start)
  while waiting:
    name = waiting.pop()
    if name not in found:
      found.add(name)
      waiting += graph.get(name, ())
  return found


def dependencies() -> dict[str, set[str]]:
  """Returns the dependencies of each target, without cycles."""
  every, firm = edges(), edges(late=False)
  return {
      name: {
          other for other in reached
          if other in firm[name] or name not in closure(every, [other])}
      for name, reached in every.items()}


def targets() -> list[Target]:
  """Returns the rules of BUILD, in its order."""
  graph = dependencies()
  by_name = {place(path)[1] for path in parts()}.union(
      *(edges()[name] - graph[name] for name in graph))
  sources: dict[tuple[str, str], list[str]] = {}
  for path in files():
    sources.setdefault(place(path), []).append(path)
  found = [Target('py_library', 'parts', (), _labels(by_name))]
  for (rule, name), paths in sources.items():
    if rule == 'pytest_test' and len(paths) > 1:
      raise SystemExit(
          f'{" and ".join(paths)} would be one test for Bazel: name them apart')
    found.append(Target(
        rule, name, tuple(paths), _labels(graph[name]),
        _data(rule, name, paths, graph)))
  order = {'py_library': 0, 'py_binary': 1, 'pytest_test': 2}
  return sorted(found, key=lambda t: (order[t.rule], t.srcs, t.name))


def _labels(names: Iterable[str]) -> tuple[str, ...]:
  return tuple(sorted({f':{name}' for name in names}))


def _data(rule, name, paths, graph) -> tuple[str, ...]:
  """Returns what a target reads or starts when it runs."""
  found = set()
  if 'dv3/config/files.py' in paths:
    found.add(':gin_files')
  if 'tests/golden/golden_data.py' in paths:
    found.add(':golden_files')
  if rule == 'py_library':
    return tuple(found)
  # What a library of the tests names is data of those that it helps: it may
  # itself be a library of what it starts, and Bazel allows no cycles.
  reached, started = set(), {name}
  while started - reached:
    new = closure(graph, started) - reached
    reached |= new
    for mention in set().union(*(
        mentions(path) for path in files()
        if place(path)[1] in new and not path.startswith('dv3/'))):
      is_python = mention.endswith('.py')
      found.add(f':{place(mention)[1]}' if is_python else mention)
      if is_python:
        started.add(place(mention)[1])
  if 'BUILD' in found:
    found = (found - {'BUILD'}) | {':sources'}
  if 'registry' in reached:
    found.add(':parts')
  return tuple(sorted(found - set(_labels(graph[name])) - {f':{name}'}))


def text(target: Target) -> str:
  """Returns one rule in the language of BUILD, as buildifier would write it."""
  lines = [f'{target.rule}(', f'    name = "{target.name}",']
  if target.rule == 'py_binary':
    lines.append(f'    main = "{target.srcs[0]}",')
  for field in ('srcs', 'data', 'deps'):
    values = getattr(target, field)
    if len(values) == 1:
      lines.append(f'    {field} = ["{values[0]}"],')
    elif values:
      lines += [f'    {field} = [', *(f'        "{v}",' for v in values),
                '    ],']
  return '\n'.join([*lines, ')\n'])


def main() -> None:
  """Writes BUILD."""
  rules = [text(target) for target in targets()]
  (ROOT / 'BUILD').write_text('\n'.join([HEADER, *rules]), encoding='utf-8')


if __name__ == '__main__':
  main()
