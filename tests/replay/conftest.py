"""What the tests of replay share."""

import os
import pathlib
import sys

import pytest

# Lets them import their helper by name.
sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(autouse=True)
def flushed(monkeypatch):
  """Makes flushing to disk free, and returns the list of what was flushed.

  The chunks of these tests have a few steps; each would cost a real flush.
  """
  calls = []

  def flush(descriptor):
    calls.append(os.readlink(f'/proc/self/fd/{descriptor}'))

  monkeypatch.setattr(os, 'fsync', flush)
  return calls
