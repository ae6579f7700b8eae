"""What may change between a run and its continuation."""

import pathlib
import re

import gin
import pytest

from dv3 import config
from dv3 import errors
from dv3 import plugins
from dv3.config import resume

HERE = pathlib.Path(__file__).parent
BASE = [
    'STEPS = 100', 'learn.env_steps = %STEPS',
    'learn.part = @balancer.fake.sum', 'balancer.fake.sum.factor = 2.0',
]


@pytest.fixture(autouse=True)
def place(monkeypatch):
  plugins.load([str(HERE / 'config_fakes.py')])
  monkeypatch.setattr(resume, 'MAY_CHANGE', {
      'fakes.learn.env_steps': '', '*_every_seconds': '', 'logger.*': ''})
  yield
  gin.clear_config()


def parse(*params):
  return config.parse(
      [], [*BASE, *params], roots=('fakes.learn',), modules=())


def test_equal_configurations():
  assert config.compare(parse(), parse()) == []
  config.require_resumable(parse(), parse())


def test_macros_are_expanded_and_defaults_count_as_bindings():
  other = parse(
      'learn.env_steps = %NUMBER', 'NUMBER = %STEPS', 'learn.rate = 0.5')
  assert config.compare(parse(), other) == []


def test_what_may_change_is_allowed():
  other = parse(
      'STEPS = 200', 'learn.log_every_seconds = 9.0',
      'learn.writers = (@logger.fake.lines,)', 'logger.fake.lines.width = 7')
  differences = {d.name: d for d in config.compare(parse(), other)}
  assert differences['fakes.learn.env_steps'] == config.Difference(
      'fakes.learn.env_steps', '100', '200', True)
  assert differences['fakes.learn.log_every_seconds'].allowed
  assert differences['logger.fake.lines.width'] == config.Difference(
      'logger.fake.lines.width', '80', '7', True)
  assert not differences['fakes.learn.writers'].allowed


def test_the_rest_is_refused_with_the_difference():
  config.require_resumable(parse(), parse('STEPS = 200'))
  with pytest.raises(errors.UserError) as caught:
    config.require_resumable(parse(), parse(
        'STEPS = 200', 'balancer.fake.sum.factor = 3.0', "learn.name = 'y'"))
  text = str(caught.value)
  assert 'balancer.fake.sum.factor was 2.0, is 3.0' in text
  assert "fakes.learn.name was 'x', is 'y'" in text
  assert 'env_steps' not in text
  assert 'docs/resume.md' in text


@pytest.mark.parametrize('one, other, same', [
    ('learn.rate = 1', 'learn.rate = 1.0', True),
    ("learn.scales = {'a': 1.0, 'b': 2.0}", "learn.scales = {'b': 2, 'a': 1}",
     True),
    ("learn.scales = {'a': 1.0}", "learn.scales = {'a': 2}", False),
    ('learn.widths = (1, 2)', 'learn.widths = (1, 3)', False),
    ('learn.fast = True', 'learn.fast = False', False)])
def test_equal_values_may_be_written_otherwise(one, other, same):
  assert (config.compare(parse(one), parse(other)) == []) == same


def test_another_part_is_refused():
  old = parse()
  new = config.parse(
      [], [*BASE[:2], 'learn.part = @balancer.fake.other'],
      roots=('fakes.learn',), modules=())
  differences = {d.name: d for d in config.compare(old, new)}
  assert differences['fakes.learn.part'] == config.Difference(
      'fakes.learn.part', '@balancer.fake.sum', '@balancer.fake.other', False)


def test_a_run_compares_with_what_it_loads(tmp_path):
  first = parse()
  first.save(str(tmp_path))
  loaded = config.load(
      str(tmp_path), ['STEPS = 5'], roots=('fakes.learn',), modules=())
  assert [d.name for d in config.compare(first, loaded)] == [
      'fakes.learn.env_steps']


def test_the_table_in_the_docs_is_the_one_in_use(monkeypatch):
  monkeypatch.undo()
  text = (HERE.parent / 'docs' / 'resume.md').read_text()
  rows = re.findall(r'^\| `(.+?)` \| (.+?) \|$', text, re.M)
  assert dict(rows) == resume.MAY_CHANGE
  assert len(rows) == len(resume.MAY_CHANGE)
