"""The pytest plugin: `pytest --dv3-component=core:vendor.name`.

TensorFlow and the registry are imported only if a component is given.
"""

import json
import pathlib

import pytest

_CASES: pytest.StashKey = pytest.StashKey()


def pytest_addoption(parser):
  """Adds the options."""
  group = parser.getgroup('dv3')
  group.addoption(
      '--dv3-component', action='append', default=[], metavar='KIND:NAME',
      help='run the conformance suite on a registered component; repeatable')
  group.addoption(
      '--dv3-plugin', action='append', default=[], metavar='PLUGIN',
      help='module or .py file that registers it; repeatable')
  group.addoption(
      '--dv3-kwargs', default='{}', metavar='JSON',
      help='constructor arguments, for example {"deter": 16}')


def pytest_configure(config):
  """Collects the shipped suite in place of the repository's tests."""
  if config.getoption('--dv3-component'):
    config.args[:] = [str(pathlib.Path(__file__).with_name('suite.py'))]
    config.stash[_CASES] = _cases(config.getoption)


def pytest_generate_tests(metafunc):
  """Makes one test of each check of each component."""
  if 'dv3_case' in metafunc.fixturenames:
    cases = metafunc.config.stash.get(_CASES, [])
    metafunc.parametrize('dv3_case', cases, ids=[
        f'{kind}:{name}-{check.__name__}' for check, kind, name, _ in cases])


def _cases(option) -> list[tuple]:
  """Returns (check, kind, name, constructor arguments) of every test.

  Raises:
    pytest.UsageError: for what cannot be tested; pytest prints it as one line.
  """
  from dv3 import errors
  from dv3 import registry
  from dv3.testing import checks
  cases = []
  try:
    kwargs = _arguments(option('--dv3-kwargs'))
    registry.load_plugins(tuple(option('--dv3-plugin')))
    for component in option('--dv3-component'):
      kind, colon, name = component.partition(':')
      if not colon:
        raise errors.UserError(
            f'--dv3-component={component} is not KIND:NAME, for example '
            'core:rssm')
      registry.get(kind, name)
      if kind not in checks.CHECKS:
        raise errors.UserError(
            f'there are no checks for {kind!r}; there are checks for '
            f'{sorted(checks.CHECKS)}')
      cases += [(check, kind, name, kwargs) for check in checks.CHECKS[kind]]
  except errors.UserError as error:
    raise pytest.UsageError(str(error)) from error
  return cases


def _arguments(text) -> dict:
  """Returns the constructor arguments of --dv3-kwargs."""
  from dv3 import errors
  try:
    kwargs = json.loads(text)
  except ValueError as error:
    raise errors.UserError(
        f'--dv3-kwargs={text} is no JSON ({error}); write {{"deter": 16}}'
    ) from error
  if not isinstance(kwargs, dict):
    raise errors.UserError(
        f'--dv3-kwargs={text} names no arguments; write {{"deter": 16}}')
  return kwargs
