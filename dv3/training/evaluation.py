"""Evaluation of a run's newest checkpoint."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from dv3 import errors
from dv3.training import camera as camera_lib
from dv3.training import checkpoints as checkpoints_lib
from dv3.training import policy as policy_lib
from dv3.training import run


@gin.register(
    'evaluate', module='dv3',
    denylist=['logdir', 'episodes', 'seed', 'video'])
def evaluate(
    *, logdir: str, agent: Callable, env: Callable, collector: Callable,
    episodes: int = 10, seed: int = 1, likeliest: bool = False,
    video: str | None = None) -> dict[str, Any]:
  """Plays episodes with the agent of a run's newest whole checkpoint.

  Args:
    logdir: the run directory, or one checkpoint's folder in it.
    agent: factory (obs_spec, action_spec), as in training.
    env: factory of the environment's `types.Recipe`.
    collector: factory (env, seed).
    episodes: how many episodes to play to their end.
    seed: of environments and sampled actions.
    likeliest: whether to take the likeliest actions in place of samples.
    video: a .gif to write, of the first episode of the first environment as
      the first image observation shows it.

  Returns:
    {'mean_return', 'std_return', 'returns', 'mean_length', 'lengths',
    'env_steps', 'episodes', 'seed'}; returns are sums of rewards in
    environment units, `env_steps` is the checkpoint's age.

  Raises:
    UserError: if the run has no whole checkpoint; for a video that is no .gif,
      or of an agent that sees no image.
  """
  errors.check_least(0, {'the seed of the evaluation': seed})
  alone = checkpoints_lib.alone(logdir)
  checkpoints = checkpoints_lib.Checkpoints(
      pathlib.Path(logdir) / 'checkpoints')
  if not alone and not checkpoints.all():  # Before what takes seconds.
    raise checkpoints.nothing_whole()
  run.seed_everything(seed)
  collector_ = collector(env=env(), seed=seed)
  try:
    camera = camera_lib.Camera(
        video, collector_.obs_spec) if video else None
    agent_ = agent(
        obs_spec=collector_.obs_spec, action_spec=collector_.action_spec)
    agent_.build()
    env_steps = _read(alone, agent_) if alone else _read_newest(
        checkpoints, agent_)
    policy: Any = policy_lib.Policy(agent_, seed=seed, mode=likeliest)
    if camera:
      policy = camera.before(policy)
    played = collector_.evaluate(policy, episodes)
  finally:
    collector_.close()
  if camera:
    camera.write()
  returns = [episode.score for episode in played]
  lengths = [episode.length for episode in played]
  return {
      'mean_return': float(np.mean(returns)),
      'std_return': float(np.std(returns)),
      'returns': [float(x) for x in returns],
      'mean_length': float(np.mean(lengths)),
      'lengths': [int(x) for x in lengths],
      'env_steps': env_steps, 'episodes': len(returns),
      'seed': seed}


def _read_newest(checkpoints, agent) -> int:
  """Reads the newest whole checkpoint into an agent.

  A run that goes on meanwhile deletes older checkpoints: the search begins
  again if the one that was found has made room for another.

  Returns:
    Its age in env steps.
  """
  while True:
    present = checkpoints.all()
    folder = checkpoints.latest()
    try:
      if folder is not None:
        return _read(folder, agent)
    except (OSError, tf.errors.OpError):
      if checkpoints.all() == present:
        raise
    if checkpoints.all() == present:
      raise checkpoints.nothing_whole()


def _read(folder, agent) -> int:
  """Reads a checkpoint into an agent; returns its age in env steps."""
  checkpoints_lib.read_variables(folder, agent=agent)
  return json.loads((folder / 'summary.json').read_text())['env_steps']
