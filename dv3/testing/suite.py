"""The test that the plugin runs on each component that it was given."""

import pytest

from dv3.testing import checks

# Whoever takes warnings for errors means those of their own code.
pytestmark = pytest.mark.filterwarnings('default')


def test_conformance(dv3_case, tmp_path):
  """One check of one component."""
  check, kind, name, kwargs = dv3_case
  checks.run(check, kind, name, kwargs, tmp_path)
