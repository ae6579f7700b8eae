"""A trained agent in a loop of one's own, without collectors or the trainer.

  python examples/play_trained.py runs/quickstart [SEED]

takes the configuration and the newest checkpoint of a run, and plays an
episode of CartPole, of seed 0 if none is given. Environment and loop are here;
any gymnasium environment with the spaces that the agent was trained on will do.
"""

import pathlib
import sys

import gin
import gymnasium
import numpy as np
import tensorflow as tf

from dv3 import config
from dv3.envs import spaces
from dv3.training import checkpoints
from dv3.training import policy as policy_lib


def restore(logdir: str, env: gymnasium.Env):
  """Returns the agent of a run's newest whole checkpoint.

  Args:
    logdir: the run directory; its configuration becomes gin's.
    env: with the spaces that the agent was trained on.

  Raises:
    UserError: if there is no whole checkpoint, or it is of another agent.
  """
  config.load(logdir)
  agent = gin.get_configurable('dv3.Agent')(
      obs_spec=spaces.observation_specs(env.observation_space),
      action_spec=spaces.action_specs(env.action_space))
  agent.build()
  kept = checkpoints.Checkpoints(pathlib.Path(logdir) / 'checkpoints')
  folder = kept.latest()
  if folder is None:
    raise kept.nothing_whole()
  checkpoints.read_variables(folder, agent=agent)
  return agent


def play(policy, env: gymnasium.Env, seed: int) -> float:
  """Returns the sum of rewards of one episode."""
  state = policy.initial(1)
  obs, _ = env.reset(seed=seed)
  is_first, over, total, call = np.ones(1, bool), False, 0.0, 0
  while not over:
    batch = tf.nest.map_structure(lambda x: np.asarray(x)[None], obs)
    actions, _, state = policy(
        spaces.flatten(env.observation_space, batch, 'observation'), is_first,
        state, call)
    obs, reward, terminated, truncated, _ = env.step(spaces.unflatten_action(
        env.action_space, {key: value[0] for key, value in actions.items()}))
    is_first, over, call = np.zeros(1, bool), terminated or truncated, call + 1
    total += float(reward)
  return total


def main(logdir: str, seed: int = 0) -> float:
  """Plays one episode and returns its score."""
  env = gymnasium.make('CartPole-v1')
  policy = policy_lib.Policy(restore(logdir, env), seed=seed)
  score = play(policy, env, seed)
  print(f'score {score:g}')
  return score


if __name__ == '__main__':
  _, *logdirs = sys.argv[:2]
  seeds = sys.argv[2:]
  if not logdirs or len(seeds) > 1 or not all(x.isdecimal() for x in seeds):
    sys.exit(__doc__)
  main(*logdirs, *map(int, seeds))
