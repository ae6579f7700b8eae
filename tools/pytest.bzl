"""Tests that pytest runs, under the settings of pyproject.toml."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_test(name, srcs, data = [], **kwargs):
    """A py_test of one test file.

    Args:
      name: the name of the target.
      srcs: the test file.
      data: what the test reads or starts.
      **kwargs: passed to py_test.
    """
    py_test(
        name = name,
        srcs = srcs + ["tools/pytest_main.py"],
        main = "tools/pytest_main.py",
        args = srcs,
        data = data + (["pyproject.toml"] if "pyproject.toml" not in data else []),
        **kwargs
    )
