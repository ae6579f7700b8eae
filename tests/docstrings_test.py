"""Docstrings of the model's parts tell what a user of one part must know."""

import re

import pytest

from dv3 import registry

KINDS = (
    'encoder', 'decoder', 'core', 'head', 'loss', 'balancer', 'normalizer',
    'optimizer')
PARTS = [(kind, name) for kind in KINDS for name in registry.names(kind)]


@pytest.mark.parametrize('kind, name', PARTS)
def test_docstring_has_formula_shapes_and_source(kind, name):
  doc = registry.describe(kind, name).doc
  body, _, _ = doc.partition('\nArgs:')
  # A block that is indented more than text is a formula, as in numpydoc.
  formulas = re.findall(r'(?m)^ {2,}\S.*(?:=|->|<-).*$', body)
  assert formulas, 'no formula'
  # Named dimensions or none, no index or range: [B, T], [..., C], [y, x], [].
  assert re.search(r'\[(\.\.\.|[A-Z]|y, x|\])', doc), 'no shape'
  assert re.search(r'(?m)^ *Source: \S', doc), 'no source'
