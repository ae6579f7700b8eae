"""Every component of the library keeps its contract."""

import pytest

from dv3 import errors
from dv3 import registry
from dv3.testing import checks
from dv3.testing import replicas

# What the checks cannot guess: arguments without a value that fits all.
KWARGS = {
    'env.gymnasium': {'id': 'CartPole-v1'},
    'env.dmc': {'task': 'cartpole_balance'}}
CASES = [
    (check, kind, name) for kind, all_checks in checks.CHECKS.items()
    for name in registry.names(kind) for check in all_checks
    if '.' not in name and check is not checks.two_replicas_stay_equal]


@pytest.mark.parametrize(
    'check, kind, name', CASES,
    ids=[f'{k}.{n}-{c.__name__}' for c, k, n in CASES])
def test_component(check, kind, name, tmp_path):
  try:
    checks.run(check, kind, name, KWARGS.get(f'{kind}.{name}', {}), tmp_path)
  except errors.UserError as error:
    if kind == 'env' and '-m pip install "dv3[' in str(error):
      pytest.skip(str(error))  # tests/envs/suites_test.py checks the message.
    raise


def test_copies_on_two_replicas_stay_equal():
  # All in one process, whose start takes longer than the cases.
  problems = replicas.report([
      (kind, name, {}) for kind in replicas.KINDS
      for name in registry.names(kind) if '.' not in name])
  assert not any(problems.values()), problems
