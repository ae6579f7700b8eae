"""The pytest plugin: `pytest --dv3-component=core:vendor.name`.

TensorFlow and the registry are imported only if a component is given.
"""

import json
import pathlib
import warnings

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
    # A repository may call its tests otherwise.
    config.addinivalue_line('python_functions', 'test_conformance')
    with warnings.catch_warnings():
      # Or take warnings for errors: those of TensorFlow are none of its own.
      warnings.simplefilter('ignore')
      config.stash[_CASES] = _cases(config.getoption)
    return
  for flag in ('--dv3-plugin', '--dv3-kwargs'):
    if config.getoption(flag) not in ([], '{}'):
      raise pytest.UsageError(
          f'{flag} is for --dv3-component=KIND:NAME; give that too')


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
      _check_arguments(kind, name, kwargs)
      cases += [(check, kind, name, kwargs) for check in checks.CHECKS[kind]]
  except errors.UserError as error:
    raise pytest.UsageError(str(error)) from error
  return cases


def _check_arguments(kind, name, kwargs) -> None:
  """Raises UserError for arguments that a constructor lacks or needs."""
  from dv3 import errors
  from dv3 import registry
  from dv3 import signatures
  from dv3.testing import small
  factory = registry.get(kind, name)
  closed = signatures.accepted(factory)
  unknown = [] if closed is None else sorted(set(kwargs) - closed)
  if unknown:
    raise errors.UserError(
        f'{kind}.{name} does not take {", ".join(unknown)} of --dv3-kwargs; it '
        f'takes {", ".join(sorted(closed or ()))}')
  needed = [
      x.name for x in signatures.arguments(kind, factory)
      if x.default is None and not x.given
      and x.name not in {*kwargs, *small.SIZES, 'action_spec'}]
  if needed:
    raise errors.UserError(
        f'{kind}.{name} needs {", ".join(needed)}; give --dv3-kwargs='
        f"'{{\"{needed[0]}\": ...}}'")


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
