"""Lets the tests of the training code import their helper by name."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
