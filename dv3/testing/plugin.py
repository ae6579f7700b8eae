"""The pytest plugin: `pytest --dv3-component=core:vendor.name`.

TensorFlow and the registry are imported only if a component is given.
"""

import json
import pathlib

import pytest


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


def pytest_generate_tests(metafunc):
  """Makes one test of each check of each component."""
  if 'dv3_case' not in metafunc.fixturenames:
    return
  from dv3 import errors
  from dv3 import registry
  from dv3.testing import checks
  option = metafunc.config.getoption
  cases, names = [], []
  try:
    kwargs = json.loads(option('--dv3-kwargs'))
    registry.load_plugins(tuple(option('--dv3-plugin')))
    for component in option('--dv3-component'):
      kind, _, name = component.partition(':')
      registry.get(kind, name)
      if kind not in checks.CHECKS:
        raise errors.UserError(
            f'there are no checks for {kind!r}; there are checks for '
            f'{sorted(checks.CHECKS)}')
      for check in checks.CHECKS[kind]:
        cases.append((check, kind, name, kwargs))
        names.append(f'{component}-{check.__name__}')
  except (errors.UserError, ValueError) as error:
    raise pytest.UsageError(str(error)) from error
  metafunc.parametrize('dv3_case', cases, ids=names)
