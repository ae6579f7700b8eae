"""The registry of swappable components.

  @registry.register('core', 'rssm')
  class RSSM(tf.Module, interfaces.Core): ...

  registry.get('core', 'rssm')(token_size=64, action_size=2, deter=512)

`TABLE` maps the library's own components to their modules, which are imported
when a component is first asked for: `import dv3` stays free of TensorFlow. A
third party's component is called `vendor.name` and joins through an entry
point, a plugin or an import (see `plugins.py`).

Each component is also a gin name, `<kind>.<name>`. A direct call ignores gin.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from dv3 import errors
from dv3 import nearest
from dv3 import plugins
from dv3 import recipes
from dv3 import signatures

KINDS = (
    'encoder', 'decoder', 'core', 'head', 'loss', 'balancer', 'optimizer',
    'normalizer', 'sampler', 'transform', 'exploration', 'env', 'collector',
    'logger', 'scaling',
)

RECIPE_KINDS = ('env', 'transform')
"""Kinds that are built in worker processes: `@env.gymnasium` called through
gin returns a picklable `types.Recipe` with the resolved arguments."""

TABLE = {
    'encoder.cnn': 'dv3.encoders.cnn',
    'encoder.dict': 'dv3.encoders.dict',
    'encoder.mlp': 'dv3.encoders.mlp',
    'encoder.valid_cnn': 'dv3.encoders.valid_cnn',
    'decoder.cnn': 'dv3.decoders.cnn',
    'decoder.dict': 'dv3.decoders.dict',
    'decoder.mlp': 'dv3.decoders.mlp',
    'decoder.none': 'dv3.decoders.none',
    'decoder.normal_mlp': 'dv3.decoders.normal_mlp',
    'decoder.transposed_cnn': 'dv3.decoders.transposed_cnn',
    'decoder.valid_cnn': 'dv3.decoders.valid_cnn',
    'core.gru': 'dv3.cores.gru',
    'core.rllib_gru': 'dv3.cores.rllib_gru',
    'core.rssm': 'dv3.cores.rssm',
    'head.actor': 'dv3.heads.actor',
    'head.binary': 'dv3.heads.binary',
    'head.normal': 'dv3.heads.normal',
    'head.symlog_twohot': 'dv3.heads.symlog_twohot',
    'head.truncated_actor': 'dv3.heads.truncated_actor',
    'head.twohot': 'dv3.heads.twohot',
    'loss.actor_backprop': 'dv3.losses.actor_backprop',
    'loss.actor_by_action': 'dv3.losses.actor_by_action',
    'loss.actor_mixed': 'dv3.losses.actor_mixed',
    'loss.actor_reinforce': 'dv3.losses.actor_reinforce',
    'loss.continue': 'dv3.losses.continuation',
    'loss.critic_imagined': 'dv3.losses.critic_imagined',
    'loss.critic_replay': 'dv3.losses.critic_replay',
    'loss.critic_target': 'dv3.losses.critic_target',
    'loss.kl': 'dv3.losses.kl',
    'loss.reconstruction': 'dv3.losses.reconstruction',
    'loss.redundancy': 'dv3.losses.redundancy',
    'loss.reward': 'dv3.losses.reward',
    'balancer.fixed': 'dv3.balancers.fixed',
    'balancer.harmony': 'dv3.balancers.harmony',
    'optimizer.adam': 'dv3.optimizers.adam',
    'optimizer.laprop': 'dv3.optimizers.laprop',
    'normalizer.meanstd': 'dv3.normalizers.meanstd',
    'normalizer.none': 'dv3.normalizers.none',
    'normalizer.percentile': 'dv3.normalizers.percentile',
    'sampler.curious': 'dv3.samplers.curious',
    'sampler.episode_ends': 'dv3.samplers.episode_ends',
    'sampler.prioritized': 'dv3.samplers.prioritized',
    'sampler.recency': 'dv3.samplers.recency',
    'sampler.uniform': 'dv3.samplers.uniform',
    'scaling.sqrt': 'dv3.scaling.sqrt',
    'transform.tanh_reward': 'dv3.transforms.tanh_reward',
    'exploration.noise': 'dv3.exploration.noise',
    'exploration.random': 'dv3.exploration.random',
    'env.memory': 'dv3.envs.memory',
    'env.gridworld': 'dv3.envs.gridworld',
    'env.atari': 'dv3.envs.atari',
    'env.bsuite': 'dv3.envs.bsuite',
    'env.crafter': 'dv3.envs.crafter',
    'env.dmc': 'dv3.envs.dmc',
    'env.memory_maze': 'dv3.envs.memory_maze',
    'env.minatar': 'dv3.envs.minatar',
    'env.minigrid': 'dv3.envs.minigrid',
    'env.miniworld': 'dv3.envs.miniworld',
    'env.procgen': 'dv3.envs.procgen',
    'env.vizdoom': 'dv3.envs.vizdoom',
    'env.gymnasium': 'dv3.envs.gymnasium',
    'collector.local': 'dv3.collectors.local',
    'collector.ray': 'dv3.collectors.ray',
    'logger.jsonl': 'dv3.loggers.jsonl',
    'logger.tensorboard': 'dv3.loggers.tensorboard',
    'logger.terminal': 'dv3.loggers.terminal',
    'logger.video': 'dv3.loggers.video',
}

_NAME = re.compile(r'[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)?')


class Entry(NamedTuple):
  """One registered component.

  Attributes:
    factory: the class or factory function.
    origin: 'file:line' of the registration.
    override: whether it took the place of another on purpose.
  """

  factory: Callable
  origin: str
  override: bool


class Description(NamedTuple):
  """What `describe` says about a component.

  Attributes:
    kind: its kind.
    name: its name.
    arguments: its constructor arguments.
    doc: its docstring.
    origin: 'file:line' of its registration.
    gin_files: the shipped gin files that name it.
  """

  kind: str
  name: str
  arguments: tuple[signatures.Argument, ...]
  doc: str
  origin: str
  gin_files: tuple[str, ...]


_components: dict[tuple[str, str], Entry] = {}


def register(kind: str, name: str, *, override: bool = False) -> Callable:
  """Registers a class or factory function as component `kind`.`name`.

  Args:
    kind: one of `KINDS`.
    name: bare for the library's own components, `vendor.name` for others.
    override: whether to take the place of a component of this name.

  Returns:
    A decorator that returns its argument unchanged.

  Raises:
    UserError: if the kind, the name, the signature or the contract is wrong,
      or another component has the name; the message shows both origins.
  """
  frame = sys._getframe(1)
  origin = f'{os.path.abspath(frame.f_code.co_filename)}:{frame.f_lineno}'

  def decorator(factory):
    _add(kind, name, factory, origin, override)
    return factory
  return decorator


def _add(kind, name, factory, origin, override):
  """Checks a component and enters it here and in gin."""
  _check_kind(kind)
  if not _NAME.fullmatch(name):
    raise errors.UserError(
        f'{kind}.{name} is no component name; write vendor.name, letters, '
        'digits and underscores only')
  known = f'{kind}.{name}' in TABLE or (kind, name) in _components
  module = getattr(factory, '__module__', '')
  ours = module.partition('.')[0] == 'dv3'
  if '.' not in name and not ours and not (override and known):
    raise errors.UserError(
        f'{kind}.{name} at {origin}: bare names belong to dv3; register '
        f"('{kind}', 'yourname.{name}'), or pass override=True to replace a "
        'component of dv3')
  signatures.check(kind, name, factory)
  old = _components.get((kind, name))
  if old and not override and not _same(old, factory, origin):
    if old.override:
      return  # The original, imported after what replaced it.
    raise errors.UserError(
        f'{kind}.{name} is registered twice, at {old.origin} and at {origin}; '
        'rename one, or pass override=True to replace the first')
  override = override or bool(old and old.override)
  _components[kind, name] = Entry(factory, origin, override)
  _enter_gin(kind, name, factory)


def _same(old: Entry, factory: Callable, origin: str) -> bool:
  """Returns whether a factory is an entry's, seen through another import.

  A module that is reloaded, or imported as `__main__` and by its name, makes
  the same definition again as another object.
  """
  def names(value, file):
    module = value.__module__
    if module in ('__main__', '__mp_main__') and module in sys.modules:
      module = getattr(sys.modules[module].__spec__, 'name', module)
    return {(module, value.__qualname__), (file, value.__qualname__)}

  if old.factory is factory:
    return True
  return bool(
      names(old.factory, old.origin.rpartition(':')[0])
      & names(factory, origin.rpartition(':')[0]))


def _enter_gin(kind: str, name: str, factory: Callable) -> None:
  """Registers a component's gin name; gin is imported only here."""
  import gin
  from gin import config as gin_config

  module, _, short = f'{kind}.{name}'.rpartition('.')
  target = factory
  if kind in RECIPE_KINDS:
    target = recipes.function(kind, name, factory)
  # Duplicates were judged already, and a component may be imported when the
  # configuration is locked; `register` minds neither.
  interactive = gin_config._INTERACTIVE_MODE
  with gin.unlock_config():
    gin.enter_interactive_mode()
    try:
      gin.register(short, module=module)(target)
    finally:
      if not interactive:
        gin.exit_interactive_mode()


def get(kind: str, name: str) -> Any:
  """Returns a registered class or factory, importing its module if needed.

  Args:
    kind: one of `KINDS`.
    name: the component's name.

  Raises:
    UserError: if there is no such component, with the nearest names; or if
      what it needs is not installed, or its plugin is broken.
  """
  return _entry(kind, name).factory


def _entry(kind: str, name: str) -> Entry:
  _check_kind(kind)
  if (kind, name) not in _components:
    key = f'{kind}.{name}'
    if key in TABLE:
      _import_ours(key)
    elif key in plugins.entry_points():
      _import_announced(kind, name)
    else:
      raise _missing(kind, name)
  return _components[kind, name]


def _import_ours(key: str) -> None:
  try:
    importlib.import_module(TABLE[key])
  except ModuleNotFoundError as error:
    if error.name is None or error.name.partition('.')[0] == 'dv3':
      raise
    extra = plugins.extra_of(error.name)
    package = f'dv3[{extra}]' if extra else error.name
    raise errors.UserError(
        f'{key} needs the package {error.name}, which is not installed; '
        f'{errors.pip_install(package)}') from error
  if tuple(key.split('.')) not in _components:
    raise LookupError(f'{TABLE[key]} does not register {key}; mend TABLE')


def _import_announced(kind: str, name: str) -> None:
  key = f'{kind}.{name}'
  found = plugins.load_entry_point(key)
  if (kind, name) in _components:
    return
  point = plugins.entry_points()[key][0]
  if not callable(found):
    raise errors.UserError(
        f'the package {plugins.package(point)} announces {key}, but its '
        f"module {point.value} does not register it; add @dv3.register('{kind}'"
        f", '{name}') there")
  _add(kind, name, found, f'entry point {point.value}', False)


def _missing(kind: str, name: str) -> errors.UserError:
  """Returns the error about a name that is not there."""
  near = nearest.hint(name, names(kind), f'known names of kind {kind}')
  near += '' if near.endswith('?') else '.'
  message = [f'there is no {kind} named {name!r};', near]
  unloaded = sorted(
      f'{key} ({plugins.package(points[0])})'
      for key, points in plugins.entry_points().items()
      if tuple(key.split('.', 1)) not in _components)
  if unloaded:
    message.append(f'Installed plugins not loaded: {", ".join(unloaded)}.')
  extra = name.replace('_', '-')
  if extra in plugins.extras():
    message.append(
        f'An extra has this name: {errors.pip_install(f"dv3[{extra}]")}.')
  else:
    message.append('One of yours needs --plugin=package.module or file.py.')
  return errors.UserError(' '.join(message))


def names(kind: str) -> list[str]:
  """Returns the names of a kind, sorted; nothing is imported."""
  _check_kind(kind)
  keys = [*TABLE, *plugins.entry_points(), *map('.'.join, _components)]
  start = f'{kind}.'
  return sorted({k.removeprefix(start) for k in keys if k.startswith(start)})


def describe(kind: str, name: str) -> Description:
  """Returns signature, docstring, origin and gin files of a component."""
  from dv3.config import files  # Late: it needs no component, but gin.

  entry = _entry(kind, name)
  return Description(
      kind=kind, name=name,
      arguments=signatures.arguments(kind, entry.factory),
      doc=signatures.doc(entry.factory), origin=entry.origin,
      gin_files=files.naming(f'{kind}.{name}'))


def load_plugins(names: Iterable[str]) -> None:
  """Imports plugins by module name or file path; see `plugins.load`."""
  plugins.load(names)


def _check_kind(kind: str) -> None:
  if kind not in KINDS:
    raise errors.UserError(
        f'there is no kind {kind!r}; {nearest.hint(kind, KINDS, "kinds")}')
