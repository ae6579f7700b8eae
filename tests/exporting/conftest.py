"""Lets these tests use the tiny agent of the training tests."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'training'))
