"""Replay context: from stored sequences to training batches.

A stored sequence has L = P * T + K steps: P pieces of T trained steps, each
preceded by K context steps, so that neighbouring pieces overlap by K. Only the
latent of the last context step is used of the context.
"""

from typing import Any

import numpy as np


def is_action(name: str) -> bool:
  """Whether an entry is an action or a part of one."""
  return name == 'action' or name.startswith('action/')


def is_latent(name: str) -> bool:
  """Whether an entry is a stored latent."""
  return name.startswith('latent/')


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


def window(name: str, length: int, context: int) -> slice:
  """Returns which positions of a piece [B, K + T] training takes of an entry.

  Args:
    name: of the entry.
    length: T.
    context: K.

  Returns:
    K .. K + T - 1 for observations, rewards and flags; K - 1 .. K + T - 2 for
    actions (without context 0 .. T - 2, the first being zero); K - 1 for
    latents (without context none).
  """
  if is_latent(name):
    return slice(max(0, context - 1), context)
  if is_action(name):
    return slice(max(0, context - 1), context + length - 1)
  return slice(context, context + length)


def batch_name(name: str) -> str:
  """Returns the name of a stored entry in a batch."""
  return f'prev_{name}' if is_action(name) else name


def apply(
    piece: dict[str, np.ndarray], carry: dict[str, np.ndarray], consecutive,
    *, length: int, context: int) -> dict[str, Any]:
  """Cuts one piece of annotated sequences into what training takes.

  Args:
    piece: {name: [B, K + T, ...]} as stored, with 'stepid'.
    carry: {'latent/<name>': [B, ...]}, the latents after the previous piece of
      the same sequences.
    consecutive: number of the piece in its sequence, an int or [B].
    length: T.
    context: K; without it the first step is a reset, and there is no latent.

  Returns:
    {name: [B, T, ...]}: observations, rewards, flags and step identifiers of
    the last T steps, 'prev_action' (or 'prev_action/<k>') that led to them,
    and 'latent/<name>' [B, ...] before them: the stored one in a sequence's
    first piece, else the carry.

  Source: danijar/dreamerv3 e3f0224, the agent's replay-context step.
  """
  batch = {}
  for name, value in piece.items():
    value = value[:, window(name, length, context)]
    if is_latent(name):
      if context:
        batch[name] = value[:, 0]
    elif is_action(name) and not context:
      zero = np.zeros((len(value), 1, *value.shape[2:]), value.dtype)
      batch[batch_name(name)] = np.concatenate([zero, value], 1)
    else:
      batch[batch_name(name)] = value
  return carried(batch, carry, consecutive)


def carried(
    batch: dict[str, Any], carry: dict[str, np.ndarray],
    consecutive) -> dict[str, Any]:
  """Returns a batch whose later pieces start from the carry.

  Args:
    batch: of `Replay.gather`, or what `apply` makes of a piece.
    carry: {'latent/<name>': [B, ...]} after the previous piece.
    consecutive: number of the piece in its sequence, an int or [B].
  """
  first = np.broadcast_to(np.asarray(consecutive) == 0, len(batch['is_first']))
  result = dict(batch)
  for name, value in carry.items():
    if name in batch:
      rows = first.reshape(-1, *[1] * (value.ndim - 1))
      result[name] = np.where(rows, batch[name], value)
  return result
