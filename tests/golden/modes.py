"""The ways in which the library's functions are compiled."""

import tensorflow as tf

from dv3.nets import norms
from dv3.nets import picking
from dv3.nets import products
from dv3.nets import xla

MODES = ['graph', 'xla', 'xla_cpu']


def compiled(function, mode, monkeypatch):
  """Returns the function as a graph, under XLA, or with formulas for a CPU.

  The last with all of them, however small what they compute.
  """
  if mode == 'xla_cpu':
    monkeypatch.setattr(norms, 'LONG', 0)
    monkeypatch.setattr(picking, 'LEAST_ROWS', 1)
    monkeypatch.setattr(picking, 'LEAST_SUMS', 1)
    monkeypatch.setattr(picking, 'LEAST_CLASSES', 1)
    monkeypatch.setattr(picking, 'LEAST_GROUPS', 1)
    monkeypatch.setattr(
        products, 'processor_multiplies_bfloat16', lambda: True)
    return xla.compiled(function)
  return tf.function(function, jit_compile=mode == 'xla')
