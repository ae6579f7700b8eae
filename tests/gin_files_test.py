"""The shipped gin files parse, commute, and name every component."""

import itertools
import os

import gin
import pytest

from dv3 import config
from dv3 import registry
from dv3.config import files
from dv3.config import reader

KINDS = ('size', 'task', 'variant', 'dist')
TASK = 'task/cartpole.gin'
SIZES = {  # One of each base, where the base itself does not choose.
    'dreamerv3.gin': 'size/1m.gin', 'dreamerv3_v1.gin': 'size/v1_xs.gin',
    'dreamerv2.gin': None}
OF_ONE_BASE = {
    'variant/rllib_gru.gin': 'dreamerv3_v1.gin',
    'variant/dreamerv2_dmc.gin': 'dreamerv2.gin'}
OF_ALL_BASES = ('variant/actor_backprop.gin',)


@pytest.fixture(autouse=True)
def clean():
  yield
  gin.clear_config()


def kind_of(name):
  return os.path.dirname(name)


def bases_of(name):
  """Returns the bases that a file is for: tasks and dist serve all."""
  if kind_of(name) in ('task', 'dist') or name in OF_ALL_BASES:
    return list(SIZES)
  v1 = os.path.basename(name).startswith('v1_')
  default = 'dreamerv3_v1.gin' if v1 else 'dreamerv3.gin'
  return [OF_ONE_BASE.get(name, default)]


def parse(base, *names):
  """Parses the base, what every run needs, then the files in this order."""
  kinds = {kind_of(name) for name in names}
  filling = [] if 'size' in kinds or not SIZES[base] else [SIZES[base]]
  filling += [] if 'task' in kinds else [TASK]
  return config.parse([base, *filling, *names])


NAMES = [n for n in files.shipped_names() if kind_of(n) in KINDS]
CASES = [(base, name) for name in NAMES for base in bases_of(name)]
PRESETS = [n for n in files.shipped_names() if kind_of(n) == 'preset']
PAIRS = [
    (base, a, b) for base in SIZES
    for a, b in itertools.combinations(
        [n for n in NAMES if base in bases_of(n)], 2)
    if kind_of(a) != kind_of(b)]


@pytest.mark.parametrize('base, name', CASES)
def test_parses_with_its_bases(base, name):
  assert parse(base, name).text


@pytest.mark.parametrize('name', PRESETS)
def test_preset_is_complete(name):
  assert config.parse([name]).text


@pytest.mark.parametrize('name', PRESETS)
def test_preset_is_includes_only(name):
  path = os.path.join(files.shipped_folder(), name)
  lines = [x for x in files.read(path).splitlines() if x and x[0] != '#']
  assert lines and all(x.startswith('include ') for x in lines)


def test_tuned_numbers_are_those_of_one_preset():
  tuned = [n for n in files.shipped_names() if kind_of(n) == 'tuned']
  assert tuned
  for name in tuned:
    preset = f'preset/{os.path.basename(name)}'
    assert files.read(files.find(preset)).rstrip().endswith(
        f"include '{name}'"), name


def bound(name):
  """Returns the names that a file binds, with those of its includes."""
  path = os.path.join(files.shipped_folder(), name)
  return {binding.name for binding in reader.read_file(path)}


def test_files_of_different_kinds_bind_different_names():
  names = {name: bound(name) for name in NAMES}
  for _, first, second in PAIRS:
    assert not names[first] & names[second], (first, second)


def test_kinds_commute():
  # What binds different names commutes; one pair of each two kinds is run.
  tried = {}
  for base, first, second in PAIRS:
    tried.setdefault((base, kind_of(first), kind_of(second)), (first, second))
  for (base, *_), (first, second) in tried.items():
    assert parse(base, first, second).text == parse(
        base, second, first).text, (base, first, second)


@pytest.mark.parametrize('key', sorted(registry.TABLE))
def test_every_component_is_named_by_a_shipped_file(key):
  assert files.naming(key)


@pytest.mark.parametrize('name', [n for n in NAMES if n.startswith('task/')])
def test_task_says_what_its_budget_counts(name):
  path = os.path.join(files.shipped_folder(), name)
  header = ' '.join(files.read(path).split('TASK =')[0].split('\n# '))
  assert ' budget counts env steps' in header


@pytest.mark.parametrize('name', files.shipped_names())
def test_header_says_what_the_file_is(name):
  path = os.path.join(files.shipped_folder(), name)
  assert files.read(path).startswith('# ')
