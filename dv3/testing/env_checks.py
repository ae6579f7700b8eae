"""What environments must do; nothing here imports TensorFlow.

The checks of an environment run in a process without it, unless plugins import
it: TensorFlow crashes beside software OpenGL, and no environment of a run
shares a process with it.
"""

import contextlib
import multiprocessing
import traceback
import warnings

import numpy as np
from gymnasium.utils import env_checker

from dv3 import errors
from dv3 import recipes
from dv3 import registry
from dv3.collectors import worker
from dv3.envs import spaces

_SECONDS = 300.0


def env_keeps_gymnasiums_contract(kind, name, kwargs):
  """Gymnasium's checker passes, spaces can be represented, seeds repeat."""
  from dv3.testing import small  # It imports TensorFlow, which children lack.
  recipe = recipes.make(
      kind, name, registry.get(kind, name),
      {**small.sizes(kind, name), **kwargs})
  context = multiprocessing.get_context('spawn')
  receiver, sender = context.Pipe(duplex=False)
  process = context.Process(target=_answer, args=(sender, recipe))
  process.start()
  sender.close()
  try:
    assert receiver.poll(_SECONDS), (
        f'{kind}.{name} did not take a few steps in {_SECONDS:g} seconds')
    refused, failed = receiver.recv()
  except EOFError:
    process.join()
    raise AssertionError(
        f'the process of {kind}.{name} died with code {process.exitcode}; try '
        'the environment alone in Python, and check its graphics libraries '
        'and memory') from None
  finally:
    process.kill()
    process.join()
    receiver.close()
  if refused:
    raise errors.UserError(refused)
  assert not failed, failed


def _answer(sender, recipe):
  """Runs in the process; sends ('', '') or the text of what is wrong.

  Text, since an error of anybody's class may not survive the journey.
  """
  worker.follow_parent()
  try:
    _check(recipe)
    sender.send(('', ''))
  except errors.UserError as error:
    sender.send((str(error), ''))
  except BaseException:  # noqa: BLE001 - whatever an environment raises
    sender.send(('', traceback.format_exc()))


def _check(recipe):
  """Builds the environment twice and plays a few steps."""
  with contextlib.ExitStack() as stack:
    make = lambda: stack.enter_context(contextlib.closing(recipe.build()))
    env = make()
    with warnings.catch_warnings():
      # It warns of wrappers, which env components are free to use.
      warnings.simplefilter('ignore', UserWarning)
      env_checker.check_env(env, skip_render_check=True)
    spaces.action_specs(env.action_space)
    _check_steps(env, make())


def _check_steps(env, other):
  """Plays two environments alike."""
  specs = spaces.observation_specs(env.observation_space)
  repeats = not (env.spec and env.spec.nondeterministic)
  first, _ = env.reset(seed=5)
  second, _ = other.reset(seed=5)
  env.action_space.seed(0)
  for _ in range(10):
    a, b = _flat(env, first), _flat(env, second)
    assert set(a) == set(specs)
    if repeats:
      for key in a:
        np.testing.assert_array_equal(
            a[key], b[key], f'{key} of two episodes with one seed')
    action = env.action_space.sample()
    first, reward, *end, _ = env.step(action)
    second, again, *other_end, _ = other.step(action)
    if repeats:
      assert reward == again and end == other_end, (
          'two episodes with one seed differ in rewards or ends')
    if any(end) or any(other_end):
      break


def _flat(env, obs):
  """Returns an observation's entries {name: [1, ...]}."""
  return spaces.flatten(env.observation_space, _batched(obs), 'observation')


def _batched(nest):
  """Gives every array of a nest a leading axis."""
  if isinstance(nest, dict):
    return {k: _batched(v) for k, v in nest.items()}
  if isinstance(nest, tuple):
    return tuple(_batched(v) for v in nest)
  return np.asarray(nest)[None]
