"""The shipped gin files parse, commute, and name every component."""

import itertools
import os

import gin
import pytest

from dv3 import config
from dv3 import registry
from dv3.config import files

KINDS = ('size', 'task', 'variant', 'dist')
NEEDED = {'size': 'size/1m.gin', 'task': 'task/cartpole.gin'}
BASE = 'dreamerv3.gin'


@pytest.fixture(autouse=True)
def clean():
  yield
  gin.clear_config()


def kind_of(name):
  return os.path.dirname(name)


def of_our_base(name):
  """Leaves out the files that belong to another base."""
  return not os.path.basename(name).startswith(('v1_', 'dreamerv2'))


def parse(*names):
  """Parses the base, what every run needs, then the files in this order."""
  chosen = {kind_of(name) for name in names}
  filling = [n for kind, n in NEEDED.items() if kind not in chosen]
  return config.parse([BASE, *filling, *names])


NAMES = [
    n for n in files.shipped_names() if kind_of(n) in KINDS and of_our_base(n)]
PRESETS = [n for n in files.shipped_names() if kind_of(n) == 'preset']
PAIRS = [
    (a, b) for a, b in itertools.combinations(NAMES, 2)
    if kind_of(a) != kind_of(b)]


@pytest.mark.parametrize('name', NAMES)
def test_parses_with_the_base(name):
  assert parse(name).text


@pytest.mark.parametrize('name', PRESETS)
def test_preset_is_complete(name):
  assert config.parse([name]).text


def test_kinds_commute():
  for first, second in PAIRS:
    assert parse(first, second).text == parse(second, first).text, (
        first, second)


@pytest.mark.parametrize('key', sorted(registry.TABLE))
def test_every_component_is_named_by_a_shipped_file(key):
  assert files.naming(key)


@pytest.mark.parametrize('name', files.shipped_names())
def test_header_says_what_the_file_is(name):
  path = os.path.join(files.shipped_folder(), name)
  assert files.read(path).startswith('# ')
