"""Replay context: from stored sequences to training batches."""

from typing import Any

import numpy as np

from dv3 import types


def annotate(is_first: np.ndarray, is_last: np.ndarray):
  """Marks the borders of sampled sequences.

  The first step of a sequence is a first step; a step before a first step is a
  last one (an episode that was abandoned). The last position is not changed.

  Args:
    is_first: [B, L] bool.
    is_last: [B, L] bool.

  Returns:
    (is_first, is_last), copies.

  Source: danijar/dreamerv3 e3f0224, replay.
  """
  is_first, is_last = is_first.copy(), is_last.copy()
  is_first[:, 0] = True
  is_last[:, :-1] |= is_first[:, 1:]
  return is_first, is_last


def is_action(name: str) -> bool:
  """Whether an entry is an action or a part of one."""
  return name == 'action' or name.startswith('action/')


def is_latent(name: str) -> bool:
  """Whether an entry is a stored latent."""
  return name.startswith('latent/')


def apply(
    sequence: dict[str, np.ndarray], carry: dict[str, np.ndarray] | None,
    consecutive: int, *, length: int, context: int) -> dict[str, Any]:
  """Cuts one piece [B, K + T] into what training takes.

  Args:
    sequence: {name: [B, K + T, ...]}, annotated, with 'stepid'.
    carry: {'latent/<name>': [B, ...]}, the latents after the previous piece of
      the same sequence; used if `consecutive` is not 0.
    consecutive: number of the piece in its sequence; 0 starts from the stored
      latents.
    length: T.
    context: K; with 0 the first step is a reset and no latent is returned.

  Returns:
    {name: [B, T, ...]}: observations, rewards, flags and step identifiers of
    the last T steps, 'prev_action' (or 'prev_action/<k>') that led to them,
    and 'latent/<name>' [B, ...] before them.

  Source: danijar/dreamerv3 e3f0224, `Agent._apply_replay_context`.
  """
  result = {}
  for name, value in sequence.items():
    if is_latent(name):
      if context and not (consecutive and carry is not None):
        result[name] = value[:, context - 1]
    elif is_action(name):
      if context:
        value = value[:, context - 1: context - 1 + length]
      else:
        value = np.concatenate(
            [np.zeros_like(value[:, :1]), value[:, :length - 1]], 1)
      result[f'prev_{name}'] = value
    else:
      result[name] = value[:, context: context + length]
  if consecutive and carry is not None:
    result.update(carry)
  return result


def latent_names(specs: types.Specs) -> list[str]:
  """Returns the names of the stored latents."""
  return [name for name in specs if is_latent(name)]
