"""Times RLlib's TensorFlow learner; runs in an environment of its own.

  python rllib_update.py CASE REPEATS

The traced update of RLlib's learner is called on random batches of our shape.
Its metrics code raises where the learner is used directly, so that a plain
dictionary takes its place: this only makes it faster. Prints one JSON line.
"""

import importlib
import json
import os
import resource
import statistics
import sys
import time

BEGIN = time.time()
SHAPES = {'xs-vectors': (4,), 'xs-images': (64, 64, 3)}
SIZE, LENGTH = 16, 64


class Plain:
  """Keeps what is logged during one update."""

  def __init__(self):
    self.values = {}

  def log_dict(self, values, *, key=None, **kwargs):
    """Keeps several values."""
    del kwargs
    for name, value in values.items():
      self.values[(key, name)] = value

  def log_value(self, key, value, **kwargs):
    """Keeps one value."""
    del kwargs
    self.values[key] = value

  def peek(self, key, **kwargs):
    """Returns what was kept."""
    del kwargs
    return self.values[key]

  def activate_tensor_mode(self):
    """Starts an update."""
    self.values = {}

  def deactivate_tensor_mode(self):
    """Ends an update; nothing leaves it."""
    return {}


def main():
  """Runs one case."""
  case, repeats = sys.argv[1], int(sys.argv[2])
  # Its networks are for Keras 2.
  os.environ['TF_USE_LEGACY_KERAS'] = '1'
  np = importlib.import_module('numpy')
  gymnasium = importlib.import_module('gymnasium')
  tf = importlib.import_module('tensorflow')
  rllib = importlib.import_module('ray.rllib.algorithms.dreamerv3')
  shape = SHAPES[case]
  actions = 2 if len(shape) == 1 else 6
  observation = gymnasium.spaces.Box(-1.0, 1.0, shape, np.float32)
  config = rllib.DreamerV3Config().environment(
      observation_space=observation,
      action_space=gymnasium.spaces.Discrete(actions)).training(
          model_size='XS', batch_size_B=SIZE, batch_length_T=LENGTH)
  learner = config.build_learner(spaces={
      '__env__': (observation, gymnasium.spaces.Discrete(actions)),
      '__env_single__': (observation, gymnasium.spaces.Discrete(actions)),
      'default_policy': (observation, gymnasium.spaces.Discrete(actions))})
  learner.metrics = Plain()
  rng = np.random.default_rng(0)
  chosen = rng.integers(0, actions, (SIZE, LENGTH))
  lead = (SIZE, LENGTH)
  flags = lambda: tf.zeros(lead, tf.bool)
  batch = {'default_policy': {
      'obs': tf.constant(rng.normal(size=(*lead, *shape)), tf.float32),
      'actions': tf.one_hot(chosen, actions),
      'actions_ints': tf.constant(chosen),
      'rewards': tf.constant(rng.normal(size=lead), tf.float32),
      'is_first': flags(), 'is_last': flags(), 'is_terminated': flags(),
      'is_truncated': flags()}}
  seconds = []
  first = 0.0
  for number in range(repeats + 2):
    begin = time.perf_counter()
    outputs = learner._possibly_traced_update(batch)
    tf.nest.map_structure(
        lambda x: x.numpy() if hasattr(x, 'numpy') else x, outputs[1])
    seconds.append(time.perf_counter() - begin)
    first = first if number else time.time() - BEGIN
  print(json.dumps({
      'seconds': statistics.median(seconds[2:]), 'all_seconds': seconds,
      'first_update_seconds': first,
      'peak_rss_bytes': resource.getrusage(
          resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == '__main__':
  main()
