"""BUILD says what the tree holds, what its files import, and which way."""

import ast
import collections
import importlib.metadata
import re
import sys
import textwrap
import tomllib

import build_file
import pytest

from dv3 import registry
from dv3.config import configuration

ROOT = build_file.ROOT
LAYERS = (
    {'nets', 'distributions'},
    {'encoders', 'decoders', 'cores', 'heads', 'losses'},
    {'agent'},
    {'training'},
    {'benchmarking', 'exporting'},
    {'bin'},
)
"""A library may import from its own layer and from those before it."""

HOST_SIDE = {
    'envs', 'replay', 'samplers', 'collectors', 'transforms', 'loggers',
    'registry', 'types', 'interfaces', 'config', 'report'}
TENSORFLOW = {'tensorflow', 'tf_keras', 'tensorflow_probability', 'keras'}


PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def read_build():
  """Returns the rules of BUILD: name -> {'rule': ..., 'srcs': [...], ...}."""
  rules = {}
  for node in ast.parse((ROOT / 'BUILD').read_text()).body:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
      rule = ast.unparse(node.value.func)
      if rule.startswith('py'):
        fields = {
            k.arg: ast.literal_eval(k.value) for k in node.value.keywords}
        name = fields.pop('name')
        assert name not in rules, f'{name} stands twice in BUILD'
        rules[name] = {'srcs': [], 'deps': [], 'data': [], **fields}
        rules[name]['rule'] = rule
  return rules


BUILD = read_build()
DEPS = {
    name: {label[1:] for label in rule['deps']}
    for name, rule in BUILD.items()}
TARGETS = [name for name in BUILD if name != 'parts']
HOMES = {path: name for name, rule in BUILD.items() for path in rule['srcs']}


def imported(target, late=True):
  """Returns the targets that the files of a target import."""
  found = set()
  for path in BUILD[target]['srcs']:
    for item in build_file.imports(path):
      home = build_file.module(item.module)
      if home and (late or not item.late):
        found |= {HOMES[home]} | ({'dv3'} if home.startswith('dv3/') else set())
  return found - {target}


def third_party(path):
  """Returns the packages of others that a file imports, by import name."""
  names = {item.module.partition('.')[0] for item in build_file.imports(path)
           if not build_file.module(item.module)}
  return names - sys.stdlib_module_names


def test_imports_are_seen(tmp_path):
  path = tmp_path / 'file.py'
  path.write_text(textwrap.dedent("""
      import os.path
      from dv3 import errors
      import dv3
      def late():
        import tensorflow as tf
        return dv3.get, tf
      """))
  assert [tuple(item) for item in build_file.imports(str(path))] == [
      ('os.path', False), ('dv3.errors', False), ('dv3', False),
      ('tensorflow', True), ('dv3.get', True)]
  assert build_file.module('dv3.errors.UserError') == 'dv3/errors.py'
  assert build_file.module('dv3.get') == 'dv3/registry.py'
  assert build_file.module('dv3.nets.linear.Linear') == 'dv3/nets/linear.py'
  assert build_file.module('os.path') is None


def test_every_file_has_one_target():
  count = collections.Counter(
      path for rule in BUILD.values() for path in rule['srcs'])
  assert [path for path, n in count.items() if n > 1] == []
  in_tree = {
      path.relative_to(ROOT).as_posix()
      for folder in ('dv3', 'tests', 'tools', 'examples', 'benchmarks')
      for path in (ROOT / folder).rglob('*.py')}
  assert set(count) == in_tree, 'run `make build-file`'


def test_gin_holds_no_python():
  assert list((ROOT / 'gin').rglob('*.py')) == []


@pytest.mark.parametrize('name', TARGETS)
def test_dependencies_are_imports(name):
  by_pytest = set()
  if BUILD[name]['rule'] == 'pytest_test':
    source = BUILD[name]['srcs'][0]
    by_pytest = {
        HOMES[path] for path in HOMES if path.endswith('conftest.py')
        and source.startswith(path.removesuffix('conftest.py'))}
    if 'pytest11' in PROJECT.get('entry-points', {}):
      by_pytest.add('testing')
  assert by_pytest <= DEPS[name], 'pytest loads these: `make build-file`'
  stale = DEPS[name] - imported(name) - by_pytest
  assert stale == set(), 'nothing imports these: `make build-file`'
  missing = imported(name) - DEPS[name]
  assert missing & imported(name, late=False) == set(), (
      'imported, and not in deps: `make build-file`')
  for other in missing:  # Only those that would close a cycle.
    reached = build_file.closure({n: imported(n) for n in TARGETS}, [other])
    assert name in reached, f'imported, and not in deps: {other}'
    assert other in DEPS['parts']


def test_dependencies_have_no_cycle():
  for name in BUILD:
    assert name not in build_file.closure(DEPS, DEPS[name]), name


def test_parts_are_what_is_imported_by_name():
  by_name = [*registry.TABLE.values(), *configuration.MODULES]
  table = {module.split('.')[1] for module in by_name}
  assert table | {'agent', 'errors', 'registry'} <= DEPS['parts']


@pytest.mark.parametrize(
    'name', [n for n in TARGETS if BUILD[n]['rule'] != 'py_library'])
def test_what_runs_has_its_data(name):
  data = BUILD[name]['data']
  started = {label[1:] for label in data if label[1:] in BUILD}
  reached = build_file.closure(DEPS, DEPS[name] | started)
  if 'registry' in reached:
    assert ':parts' in data or 'parts' in reached
  files = [label for label in data if not label.startswith(':')]
  assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize(
    'name', [n for n in TARGETS if BUILD[n]['rule'] == 'pytest_test'])
def test_files_that_tests_name_are_their_data(name):
  data = set(BUILD[name]['data'])
  reached = build_file.closure(
      DEPS, {name} | {label[1:] for label in data if label[1:] in BUILD})
  text = '\n'.join(
      (ROOT / path).read_text() for other in reached
      for path in BUILD[other]['srcs'] if not path.startswith('dv3/'))
  programs = [
      rule['main'] for rule in BUILD.values() if 'main' in rule
      and not rule['main'].startswith('dv3/')]
  for path in ['Makefile', *programs, *(
      path.relative_to(ROOT).as_posix()
      for pattern in ('docs/*.md', 'examples/plugin/*.*', 'tests/**/*.gin')
      for path in ROOT.glob(pattern))]:
    folder, _, file = path.rpartition('/')
    # Beside a name that others have too stands its folder.
    named = file if file not in ('README.md', 'pyproject.toml') else folder
    if re.search(rf"['/]{re.escape(named)}'", text) or (
        folder == 'examples/plugin' and f"{folder}'" in text):
      wanted = f':{HOMES[path]}' if path in HOMES else path
      assert wanted in data or wanted[1:] in reached, 'run `make build-file`'


def test_binaries_are_console_scripts():
  scripts = PROJECT['scripts']
  binaries = {
      name: rule['main'] for name, rule in BUILD.items()
      if rule['rule'] == 'py_binary' and rule['main'].startswith('dv3/')}
  assert binaries == {
      name: entry.partition(':')[0].replace('.', '/') + '.py'
      for name, entry in scripts.items()}
  for name, entry in scripts.items():
    functions = {
        node.name: node.args for node in build_file.tree(binaries[name]).body
        if isinstance(node, ast.FunctionDef)}
    arguments = functions[entry.partition(':')[2]]
    assert not arguments.args, 'a console script calls it without arguments'


def test_imports_point_one_way():
  rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
  programs = {n for n in BUILD if BUILD[n]['rule'] == 'py_binary'}
  wrong = []
  for name in TARGETS:
    sources = BUILD[name]['srcs']
    if not sources[0].startswith('dv3/') or name == 'testing':
      continue
    own = rank['bin'] if name in programs else rank.get(name)
    for other in imported(name):
      if own is None:  # Swappable kinds and the registry know no trainer.
        if other in ('agent', 'training', 'bin'):
          wrong.append((name, other))
      elif rank.get(other, 0) > own:
        wrong.append((name, other))
  assert wrong == []


@pytest.mark.parametrize('name', sorted(HOST_SIDE))
def test_host_side_knows_neither_model_nor_tensorflow(name):
  reached = build_file.closure(
      {n: imported(n) for n in TARGETS}, [name])
  model = {'agent', 'training', 'bin', 'normalizers', 'optimizers'}.union(
      *LAYERS)
  assert reached & model == set()
  for target in reached:
    for path in BUILD[target]['srcs']:
      assert third_party(path) & TENSORFLOW == set(), path


def test_third_party_imports_are_in_pyproject():
  extras = PROJECT['optional-dependencies']
  user = PROJECT['dependencies'] + [
      item for name, items in extras.items() if name != 'dev' for item in items]

  def declared(requirements):
    return {
        re.match(r'[\w.-]+', item)[0].lower().replace('_', '-')
        for item in requirements}
  distributions = importlib.metadata.packages_distributions()
  for path in HOMES:
    allowed = declared(user if path.startswith('dv3/') else [
        *user, *extras['dev']])
    for package in third_party(path):
      owners = {
          name.lower().replace('_', '-')
          for name in distributions.get(package, [package])}
      assert owners & allowed, f'{path} imports {package}; add it to pyproject'
