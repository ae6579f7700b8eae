"""Settings of the whole test run."""

import os

import gin
import pytest

# TensorFlow greets on stderr, and tests read what programs write there.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Binaries that tests start keep nothing in the home of whoever tests.
os.environ['DV3_COMPILE_CACHE'] = ''

# One to four minutes each, so begun first: none is left over for one process.
LONG = (
    'memory_learning_test.py', 'trainer_test.py', 'golden_agent_loss_test.py',
    'replicas_test.py', 'observe_test.py', 'mixed_test.py',
    'objective_test.py', 'picking_test.py', 'killed_test.py')


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope='module', autouse=True)
def clear_gin():
  """Unlocks gin and drops the bindings that another test file left."""
  gin.clear_config()
