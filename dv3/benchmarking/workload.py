"""What is measured: the parts that a configuration chooses, and made-up data.

Batches come out of a real `Replay` that was filled with random steps, so that
names, shapes and dtypes are those of training.
"""

import importlib.util
import inspect
import re
from typing import Any
from typing import NamedTuple

import gin
import numpy as np

from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.collectors import worker
from dv3.config import names
from dv3.replay import replay as replay_lib
from dv3.training import distribution
from dv3.training import run
from dv3.training import step
from dv3.training import trainer

_FIRST_SHARE = 0.01  # Of steps that begin an episode.
_ATARI_PACKAGES = ('ale_py', 'cv2')
_ATARI_ACTIONS = {'pong': 6, 'breakout': 4, 'freeway': 3}
_ALL_ATARI_ACTIONS = 18
_LENGTH = re.compile(r'\d+(x\d+)*')


class Workload(NamedTuple):
  """A configuration, and the spaces of its task.

  Attributes:
    settings: {argument of `train`: value}, defaults included.
    obs_spec: the observation entries.
    action_spec: the action entries.
  """

  settings: dict[str, Any]
  obs_spec: types.Specs
  action_spec: types.Specs


def make(observations: str | None = None, actions: str | None = None):
  """Returns the workload of the configuration that gin holds.

  Args:
    observations: see `parse_observations`; None asks the environment.
    actions: see `parse_actions`; likewise.

  Raises:
    UserError: for what no run takes, or if the environment cannot be built and
      its spaces are not known without it.
  """
  chosen = settings()
  obs_spec = parse_observations(observations) if observations else None
  action_spec = parse_actions(actions) if actions else None
  if obs_spec is None or action_spec is None:
    found = _spaces(chosen['env']())
    obs_spec, action_spec = obs_spec or found[0], action_spec or found[1]
  return Workload(chosen, obs_spec, action_spec)


def settings() -> dict[str, Any]:
  """Returns the arguments of `train` that gin holds, defaults included.

  Raises:
    UserError: for what no run takes.
  """
  result = {
      name: parameter.default for name, parameter in inspect.signature(
          trainer.train).parameters.items()}
  result |= gin.get_bindings('dv3.train')
  trainer.check(result)
  step.check_compiler(result['jit_compile'])
  return result


def collector(config) -> tuple[str, int]:
  """Returns the chosen collector, and how many environments it steps.

  Args:
    config: the `config.Config` that gin holds.

  Returns:
    (name as gin has it, its bound or default `num_envs`; 1 if it has none).
  """
  chosen = config.value('dv3.train', 'collector')
  with gin.config_scope(chosen.scope or None):
    bound = gin.get_bindings(chosen.selector)
  count = bound.get('num_envs', names.default(chosen.selector, 'num_envs'))
  return chosen.selector, 1 if count is inspect.Parameter.empty else count


def _spaces(recipe: types.Recipe) -> tuple[types.Specs, types.Specs]:
  """Returns the entries of an environment, which may not be installed."""
  if recipe.name == 'atari' and not all(
      importlib.util.find_spec(name) for name in _ATARI_PACKAGES):
    return _atari(**recipe.kwargs)
  try:
    return worker.probe(recipe)[2:]
  except errors.UserError as error:
    raise errors.UserError(
        f'{error}; or give --observations and --actions, which need no '
        'environment') from error


def _atari(
    *, game='pong', full_actions=False, grey=False, size=(64, 64), **_):
  """Returns the entries of an Atari game."""
  count = _ATARI_ACTIONS.get(game, _ALL_ATARI_ACTIONS)
  count = _ALL_ATARI_ACTIONS if full_actions else count
  return (
      {'observation': types.Spec((*size, 1 if grey else 3), 'uint8')},
      {'action': types.Spec((), 'int32', (count,))})


def parse_observations(text: str) -> types.Specs:
  """Reads '4' (so many numbers), '64x64x3' (an image), or several by commas.

  Raises:
    UserError: for anything else.
  """
  specs = {}
  parts = text.split(',')
  for number, part in enumerate(parts):
    shape = tuple(int(x) for x in part.split('x')) if (
        _LENGTH.fullmatch(part)) else ()
    if len(shape) not in (1, 2, 3) or 0 in shape:
      raise errors.UserError(
          f'--observations={text}: {part!r} is neither a length (4) nor the '
          'shape of an image (64x64x3)')
    name = 'observation' if len(parts) == 1 else f'observation{number}'
    specs[name] = types.Spec(shape, 'float32' if len(shape) == 1 else 'uint8')
  return specs


def parse_actions(text: str) -> types.Specs:
  """Reads '6' (so many discrete actions) or 'box6' (so many numbers).

  Raises:
    UserError: for anything else.
  """
  number = text.removeprefix('box')
  if not number.isdecimal() or int(number) < 1:
    raise errors.UserError(
        f'--actions={text} is neither a number of discrete actions (6) nor '
        'of continuous ones (box6)')
  if text.startswith('box'):
    size = int(number)
    return {'action': types.Spec(
        (size,), 'float32', None, (-1.0,) * size, (1.0,) * size)}
  return {'action': types.Spec((), 'int32', (int(number),))}


def values(spec: types.Spec, lead: tuple[int, ...], rng) -> np.ndarray:
  """Returns random values of an entry, [*lead, *shape]."""
  shape = (*lead, *spec.shape)
  if spec.classes is not None:
    high = np.reshape(spec.classes, spec.shape)
    return rng.integers(0, high, shape).astype(spec.dtype)
  if spec.dtype == 'uint8':
    return rng.integers(0, 256, shape, dtype=np.uint8)
  if spec.dtype == 'bool':
    return rng.random(shape) < _FIRST_SHARE
  return rng.normal(size=shape).astype(spec.dtype)


def make_agent(workload: Workload, strategy):
  """Builds the agent as training does."""
  run.seed_everything(workload.settings['seed'])
  with strategy.scope():
    agent = workload.settings['agent'](
        obs_spec=workload.obs_spec, action_spec=workload.action_spec)
    agent.build()
  return agent


def require_unscaled(workload: Workload, what: str) -> None:
  """Refuses a batch that would depend on how many replicas there are.

  Args:
    workload: what is to be measured or exported.
    what: the command, for the message.

  Raises:
    UserError: if `train.scaling` is set.
  """
  if workload.settings['scaling'] is not None:
    raise errors.UserError(
        f'{what} knows no train.scaling, which multiplies the batch and the '
        "rates by the number of replicas; add --gin_param='train.scaling = "
        "None' and the train.batch_size and rates that you mean")


def make_update(workload: Workload) -> step.Update:
  """Builds agent and update as training does."""
  settings = workload.settings
  strategy = distribution.make_strategy(
      settings['distribution'], settings['replicas'])
  agent = make_agent(workload, strategy)
  return step.make_update(
      agent, strategy, settings['optimizers'], seed=settings['seed'],
      jit_compile=settings['jit_compile'])


def specs(workload: Workload, latent_spec: types.Specs) -> types.Specs:
  """Returns the entries of one step in replay."""
  stored = latent_spec if workload.settings['replay_context'] else {}
  return {
      **workload.obs_spec, **workload.action_spec, **types.FLAGS, **stored}


def make_replay(
    workload: Workload, latent_spec: types.Specs, *, capacity: int,
    workers: int, **kwargs: Any) -> replay_lib.Replay:
  """Returns an empty replay with the run's lengths and sampler.

  In memory only, unless `kwargs` have a directory.
  """
  settings = workload.settings
  sampler = settings['sampler'] or registry.get('sampler', 'uniform')
  return replay_lib.Replay(
      specs(workload, latent_spec), capacity=capacity,
      length=settings['batch_length'], context=settings['replay_context'],
      sampler=sampler(capacity=capacity), seed=settings['seed'],
      workers=workers, **kwargs)


def batches(
    workload: Workload, latent_spec: types.Specs, count: int = 2
) -> list[dict[str, np.ndarray]]:
  """Returns random batches as the trainer hands them to the update."""
  size = workload.settings['batch_size']
  length = workload.settings['batch_length']
  rng = np.random.default_rng(workload.settings['seed'])
  replay = make_replay(
      workload, latent_spec, capacity=2 * size * (length + 2), workers=size,
      chunk_steps=length)
  entries = specs(workload, latent_spec)
  for _ in range(replay.stored_length + 1):
    replay.add(
        {name: values(spec, (size,), rng) for name, spec in entries.items()},
        np.arange(size))
  result = []
  for _ in range(count):
    batch = replay.sample(size)
    result.append({
        name: np.array(value) for name, value in batch.items()
        if name not in ('stepid', 'item')})  # Copies: replay reuses buffers.
  return result
