"""Measures where a run's dreams of Atari Pong draw the paddles.

  python benchmarks/pong_paddles.py --logdir=runs/pong

Plays held-out steps with random actions, shows the model the first steps of
each sequence, lets it dream the rest from the actions alone, and compares the
centres of the paddles, drawn and true. The last line is JSON: for each paddle
and span of steps the correlation of the rows, the median error, and that of a
guess that is always the mean, in rows of 64.
"""

import argparse
import json
from typing import NamedTuple

import gin
import numpy as np

from dv3 import config
from dv3.collectors import local
from dv3.collectors import random_policy
from dv3.training import checkpoints
from dv3.training import open_loop

_BACKGROUND = np.array([144, 72, 17], np.float32)
_COURT = slice(11, 59)  # Rows between the walls, of 64.
_LEAST = 1.0  # Pixels of full contrast below which there is no paddle.


class Paddle(NamedTuple):
  """Where a paddle moves and what it looks like at 64x64."""

  columns: slice
  colour: tuple[int, int, int]


PADDLES = {
    'opponent': Paddle(slice(6, 9), (213, 130, 74)),
    'player': Paddle(slice(55, 59), (92, 186, 92))}


def centres(images: np.ndarray, paddle: Paddle) -> np.ndarray:
  """Returns the row of a paddle's centre in each image, NaN without one.

  Args:
    images: [..., 64, 64, 3], values in [0, 255].
    paddle: which one.
  """
  contrast = np.array(paddle.colour, np.float32) - _BACKGROUND
  strip = images[..., _COURT, paddle.columns, :].astype(np.float32)
  share = (strip - _BACKGROUND) @ contrast / (contrast @ contrast)
  share = np.clip(share, 0, 1).sum(-1)  # [..., rows]
  # What is faint is no paddle, and would pull the centre to the middle.
  share = np.where(share > 0.3 * share.max(-1, keepdims=True), share, 0)
  total = share.sum(-1)
  rows = np.arange(_COURT.start, _COURT.stop)
  return np.where(
      total > _LEAST, (share * rows).sum(-1) / np.maximum(total, 1e-6), np.nan)


def compare(true: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
  """Returns how drawn rows [...] fit the true ones, where there are any."""
  true, drawn = true.ravel(), drawn.ravel()
  there = np.isfinite(true)
  missing = float(np.mean(~np.isfinite(drawn[there])))
  # A paddle that is not drawn counts as a guess of the mean.
  drawn = np.where(np.isfinite(drawn), drawn, np.nanmean(true))
  true, drawn = true[there], drawn[there]
  return {
      'correlation': float(np.corrcoef(true, drawn)[0, 1]),
      'median_error_rows': float(np.median(np.abs(true - drawn))),
      'median_error_of_mean_rows': float(
          np.median(np.abs(true - true.mean()))),
      'not_drawn': missing}


def play(recipe, steps: int, length: int, seed: int):
  """Plays random actions; returns (batch of sequences [B, T, ...], specs)."""
  collector = local.LocalCollector(env=recipe, seed=seed)
  rows = []
  def sink(step, workers):
    del workers
    rows.append({k: np.array(v[0]) for k, v in step.items()})
  try:
    collector.run(
        random_policy.RandomPolicy(collector.action_spec, seed), sink, steps)
    specs = collector.obs_spec, collector.action_spec
  finally:
    collector.close()
  count = (len(rows) - 1) // length
  cut = lambda x: x[:count * length].reshape(count, length, *x.shape[1:])
  batch = {}
  for key in rows[0]:
    values = np.stack([row[key] for row in rows])
    if key in specs[1]:  # The action that led to each observation.
      batch['prev_' + key] = cut(values[:-1])
    else:
      batch[key] = cut(values[1:])
  return batch, specs


def main():
  """Prints the measurement of one run."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--logdir', required=True)
  parser.add_argument('--steps', type=int, default=6145, help='env steps')
  parser.add_argument('--length', type=int, default=64, help='of a sequence')
  parser.add_argument('--context', type=int, default=40, help='steps seen')
  parser.add_argument('--seed', type=int, default=1000)
  options = parser.parse_args()
  config.load(options.logdir)
  run = checkpoints.Checkpoints(f'{options.logdir}/checkpoints')
  folder = run.latest()
  if folder is None:
    parser.error(f'{options.logdir} has no checkpoint')
  recipe = gin.get_bindings('dv3.train')['env']()
  batch, (obs_spec, action_spec) = play(
      recipe, options.steps, options.length, options.seed)
  agent = gin.get_bindings('dv3.train')['agent'](
      obs_spec=obs_spec, action_spec=action_spec)
  agent.build()
  checkpoints.read_variables(folder, agent=agent)
  predict = open_loop.OpenLoop(agent, seed=0)
  drawn = predict.predict(batch, options.context)['observation'] * 255
  spans = {
      'seen': slice(5, options.context),
      'dreamt_1_to_10': slice(options.context, options.context + 10),
      'dreamt_11_on': slice(options.context + 10, None)}
  result = {
      'checkpoint': folder.name,
      'summary': json.loads((folder / 'summary.json').read_text())}
  for name, paddle in PADDLES.items():
    true = centres(batch['observation'], paddle)
    model = centres(drawn, paddle)
    result[name] = {
        span: compare(true[:, steps], model[:, steps])
        for span, steps in spans.items()}
    for span, values in result[name].items():
      print(name, span, {k: round(v, 3) for k, v in values.items()})
  error = np.square(drawn / 255 - batch['observation'] / 255).sum((2, 3, 4))
  result['image_error'] = {
      span: float(error[:, steps].mean()) for span, steps in spans.items()}
  print(json.dumps(result))


if __name__ == '__main__':
  main()
