"""Settings of the whole test run."""

import os

import gin
import pytest

# TensorFlow greets on stderr, and tests read what programs write there.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Binaries that tests start keep nothing in the home of whoever tests.
os.environ['DV3_COMPILE_CACHE'] = ''


@pytest.fixture(scope='module', autouse=True)
def clear_gin():
  """Unlocks gin and drops the bindings that another test file left."""
  gin.clear_config()
