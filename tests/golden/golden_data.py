"""Finds the golden arrays, numbers computed by the reference implementations.

The folder named by DV3_GOLDEN_DIR is used if it is set, else the copies here.
"""

import os
import pathlib

import numpy as np


def load(stem: str) -> dict[str, np.ndarray]:
  """Returns all arrays of one golden file, for example 'rssm_core'."""
  folder = os.environ.get('DV3_GOLDEN_DIR') or pathlib.Path(__file__).parent
  with np.load(pathlib.Path(folder) / f'{stem}.npz', allow_pickle=False) as f:
    return {name: f[name] for name in f.files}
