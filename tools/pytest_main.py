"""Runs one test file with pytest, for Bazel."""

import sys

import pytest

if __name__ == '__main__':
  code = pytest.main(['-p', 'no:cacheprovider', *sys.argv[1:]])
  # A file may hold nothing but slow tests, which are not selected.
  sys.exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)
