"""Settings of the whole test run."""

import os

# TensorFlow greets on stderr, and tests read what programs write there.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
