"""One reference run, to which nothing happens, for all tests of faults."""

import pathlib
import sys

import pytest

# Lets the tests import their helpers by name.
sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(scope='session')
def zygote():
  import lives
  zygote = lives.Zygote()
  yield zygote
  zygote.close()


@pytest.fixture(scope='session')
def reference(zygote, tmp_path_factory):
  """The run directory of a run to its end."""
  import lives
  logdir = tmp_path_factory.mktemp('faults') / 'reference'
  lives.live(zygote, logdir)
  return logdir
