"""What must hold of a configuration before gin sees it."""

import dataclasses
import math
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from dv3 import errors
from dv3 import nearest
from dv3 import signatures
from dv3.config import files
from dv3.config import names
from dv3.config import reader
from dv3.config import types

SLOTS = {
    'dv3.train': {
        'agent': 'dv3.Agent', 'env': 'env', 'collector': 'collector',
        'sampler': 'sampler', 'transforms': 'transform', 'loggers': 'logger',
        'optimizers': 'optimizer', 'scaling': 'scaling',
        'exploration': 'exploration'},
    'dv3.evaluate': {
        'agent': 'dv3.Agent', 'env': 'env', 'collector': 'collector'},
    'dv3.Agent': {
        'encoder': 'encoder', 'core': 'core', 'decoder': 'decoder',
        'reward': 'head', 'continuation': 'head', 'actor': 'head',
        'critic': 'head', 'losses': 'loss', 'balancer': 'balancer'},
    'encoder.dict': {'vector': 'encoder', 'image': 'encoder'},
    'decoder.dict': {'vector': 'decoder', 'image': 'decoder'},
    'loss.actor_backprop': {'normalizer': 'normalizer'},
    'loss.actor_by_action': {'discrete': 'loss', 'continuous': 'loss'},
    'loss.actor_reinforce': {
        'normalizer': 'normalizer', 'advantage_normalizer': 'normalizer'},
}
"""The arguments that take factories, and of which kind; `dv3.Agent`, which is
no component, stands for itself."""

_MOST = 5  # Problems that one message lists.


class Bindings(NamedTuple):
  """A configuration after the last binding of each name won.

  Attributes:
    macros: by name.
    parameters: by (scope, full selector, argument).
    undone: by name, a macro's value and the later declaration that took it
      back, or any value and that of a base after it, though another value may
      follow.
    overridden: what a flag's parameter replaced. A macro that it refers to is
      not idle: who gives a flag need not edit files.
  """

  macros: dict[str, reader.Binding]
  parameters: dict[tuple[str, str, str], reader.Binding]
  undone: dict[str, tuple[reader.Binding, reader.Binding]]
  overridden: list[reader.Binding]


def merge(bindings: Iterable[reader.Binding]) -> Bindings:
  """Lets later bindings win over earlier ones."""
  result = Bindings({}, {}, {}, [])
  for binding in bindings:
    name = binding.name
    stored: dict[Any, reader.Binding] = (
        result.parameters if binding.selector else result.macros)
    key = binding.key if binding.selector else name
    old = stored.get(key)
    if old and binding.selector and binding.from_flag:
      result.overridden.append(old)
    if old and not is_required(old.value) and (
        is_required(binding.value) and not binding.selector
        or _is_base(binding) and not _is_base(old)):
      result.undone[name] = old, binding
    stored[key] = binding
  return result


def _is_base(binding: reader.Binding) -> bool:
  """Whether a binding stands in a base, a shipped file in no folder."""
  return binding.ours and '/' not in binding.where


def is_required(value: Any) -> bool:
  """Returns whether a value declares a choice that others must make."""
  return value == reader.Macro(reader.REQUIRED)


def check_roots(bindings: Bindings, roots: Sequence[str]) -> None:
  """Raises UserError if an injection point lacks what it requires.

  Args:
    bindings: the configuration.
    roots: full names; the first will be called, the others count if anything
      is bound to them.
  """
  bound = {
      root: {a for s, c, a in bindings.parameters if not s and c == root}
      for root in roots}
  short = {root: root.rpartition('.')[2] for root in roots}
  remedy = (
      'begin with a base, --gin_file=dreamerv3.gin, or a preset, '
      '--gin_file=preset/quickstart.gin')
  if not any(bound.values()):
    raise errors.UserError(
        f'nothing is bound to {" or ".join(short.values())}; {remedy}')
  for root in roots:
    missing = [
        f'{short[root]}.{argument}' for argument in names.required(root)
        if argument not in bound[root]]
    if missing and (bound[root] or root == roots[0]):
      raise errors.UserError(
          f'nothing binds {", ".join(missing)}; {remedy}')


def check_macros(bindings: Bindings) -> None:
  """Raises UserError if a macro that is referred to is bound nowhere."""
  for binding in (*bindings.macros.values(), *bindings.parameters.values()):
    for leaf in reader.leaves(binding.value):
      if not isinstance(leaf, reader.Macro) or leaf.name in bindings.macros:
        continue
      if not names.is_constant(leaf.name):
        raise errors.UserError(
            f'{binding.where}: {binding.name} refers to the macro '
            f'%{leaf.name}, which nothing binds; '
            f'{nearest.hint(leaf.name, bindings.macros, "macros")}'
            f'{_offer(leaf.name)}')


def _offer(macro: str) -> str:
  """Returns which shipped file would bind a macro."""
  found = files.binding([macro])
  return f' (--gin_file={found[0]} binds it)' if found else ''


def check_choices(bindings: Bindings) -> None:
  """Raises UserError if a declared choice was not made, naming the remedy."""
  for name, (old, declared) in bindings.undone.items():
    raise errors.UserError(
        f'{name}, given in {old.where}, is '
        f'{"declared" if is_required(declared.value) else "set"} again by '
        f'{declared.where}; give the base file first, then size, '
        'task, variant, dist')
  missing = [n for n, b in bindings.macros.items() if is_required(b.value)]
  missing += [b.name for b in bindings.parameters.values()
              if is_required(b.value)]
  if not missing:
    return
  raise errors.UserError('; '.join(
      f'nobody chose {", ".join(group)}: {_remedy(group, found)}'
      for group, found in _choices(missing, bindings)))


def _choices(
    missing: list[str], bindings: Bindings
) -> Iterator[tuple[list[str], list[str]]]:
  """Yields missing choices, and the shipped files that make them together."""
  kinds: dict[str, list[str]] = {}
  for name in missing:
    found = files.binding([name])
    kind = os.path.dirname(found[0]) if found else ''
    kinds.setdefault(kind, []).append(name)
  for group in kinds.values():
    found = files.binding(group, bindings.macros)
    if found:
      yield group, found
    else:
      yield from (
          ([name], files.binding([name], bindings.macros)) for name in group)


def _remedy(group: list[str], found: list[str]) -> str:
  """Returns what to give so that choices are made."""
  if not found:
    return f"give --gin_param='{group[0]} = ...'"
  return (
      f'give a {os.path.dirname(found[0])}, for example '
      f'--gin_file={found[0]} ({", ".join(found)})')


def check_types(bindings: Bindings) -> None:
  """Raises UserError if a value does not fit its parameter's annotation."""
  for binding in bindings.parameters.values():
    factory = names.factory(binding.selector)
    annotation = signatures.hints(factory).get(binding.argument, Any)
    value = reader.expand(binding.value, bindings.macros)
    if not _finite(value):
      raise errors.UserError(
          f'{_source(binding, bindings)}: {binding.name} is {value!r}; give '
          'finite numbers')
    if types.fits(value, annotation):
      continue
    wanted = signatures.type_text(annotation)
    raise errors.UserError(
        f'{_source(binding, bindings)}: {binding.name} must be {wanted}, not '
        f'{value!r} ({_type(value)})')


def _finite(value: Any) -> bool:
  """Whether all numbers in a value are finite; gin's text has no others."""
  if isinstance(value, dict):
    return all(map(_finite, value.values()))
  if isinstance(value, list | tuple):
    return all(map(_finite, value))
  return not isinstance(value, float) or math.isfinite(value)


def _source(binding: reader.Binding, bindings: Bindings) -> str:
  """Returns where a value comes from: its line, and those of its macros."""
  return ' with '.join([binding.where, *(
      f'{leaf!r} in {bindings.macros[leaf.name].where}'
      for leaf in reader.leaves(binding.value)
      if isinstance(leaf, reader.Macro) and leaf.name in bindings.macros)])


def _type(value: Any) -> str:
  if isinstance(value, reader.Reference):
    return 'a reference'
  return type(value).__name__


def check_slots(bindings: Bindings) -> None:
  """Raises UserError if what is to be called is of another kind.

  A configurable of the user's own that is no component fits everywhere but in
  place of the agent.
  """
  for binding in bindings.parameters.values():
    kind = SLOTS.get(binding.selector, {}).get(binding.argument)
    if not kind:
      continue
    value = reader.expand(binding.value, bindings.macros)
    problem = (
        _misfit_of_groups(value) if kind == 'optimizer'
        else _misfit(value, kind))
    if kind == 'head':
      problem = problem or _misfit_of_head(value, binding.argument)
    if problem:
      raise errors.UserError(
          f'{_source(binding, bindings)}: {binding.name} {problem}')


def _misfit(value: Any, kind: str) -> str:
  """Returns why a reference, or a tuple of them, is not of a kind, or ''."""
  if value is None:
    return ''
  if isinstance(value, list):
    return ''  # `check_types` says that it must be a tuple.
  several = isinstance(value, tuple)
  wanted = f'{"components" if several else "a component"} of kind {kind}'
  remedy = f'; `dv3-components list {kind}` shows them'
  fitting = '', kind
  if kind.startswith('dv3.'):
    wanted, fitting = f'@{kind}', (kind,)
    remedy = (
        ', which would get none of the numbers and parts that are bound to '
        f"{kind.removeprefix('dv3.')}; swap its parts, which are components")
  for leaf in value if several else (value,):
    if isinstance(leaf, reader.Macro):
      continue  # A constant, which may be anything.
    if not isinstance(leaf, reader.Reference) or _kind(leaf) not in fitting:
      return f'takes {wanted}, not {leaf!r}{remedy}'
    if leaf.evaluate and _kind(leaf):
      bare = dataclasses.replace(leaf, evaluate=False)
      return (
          f'takes {bare!r} without (): the library calls it, with what it '
          'needs')
  return ''


def _kind(reference: reader.Reference) -> str:
  """Returns a component's kind, dv3's own configurables, '' for others."""
  component = names.split(reference.selector)
  if component:
    return component[0]
  is_ours = reference.selector.startswith('dv3.')
  return reference.selector if is_ours else ''


def _misfit_of_head(value: Any, argument: str) -> str:
  """Returns why a head cannot be built with what `Agent` gives it, or ''."""
  if not isinstance(value, reader.Reference) or not _kind(value):
    return ''
  accepted = signatures.accepted(names.factory(value.selector))
  takes_actions = accepted is None or 'action_spec' in accepted
  if argument == 'actor' and not takes_actions:
    return (
        f'takes a head of actions, such as @head.actor, not {value!r}, which '
        'has no argument action_spec')
  if argument != 'actor' and 'action_spec' in names.required(value.selector):
    return (
        f'takes a head of features alone, not {value!r}, which needs '
        'action_spec')
  return ''


def _misfit_of_groups(value: Any) -> str:
  """Returns why a value is no tuple of optimizer groups, or ''."""
  if not isinstance(value, tuple):
    return ''  # What a call of the user's returns is not known yet.
  if not value:
    return 'has no group, so that nothing would be trained; add one'
  for group in value:
    if isinstance(group, reader.Reference | reader.Macro):
      continue
    if not isinstance(group, (tuple, list)) or len(group) != 3:
      return (
          f'has {group!r} for a group; write each as (name, parts, optimizer), '
          "and all in one tuple: (('agent', ('*',), @optimizer.laprop),)")
    problem = _misfit(tuple(group[2:]), 'optimizer')
    if problem:
      return problem
  return ''


class Use(NamedTuple):
  """What is reached from the roots.

  Attributes:
    calls: (scope, full selector) of every configurable that may be called.
    macros: names of macros that are referred to.
  """

  calls: set[tuple[str, str]]
  macros: set[str]


def reach(bindings: Bindings, roots: Iterable[str]) -> Use:
  """Follows references and macros from the roots.

  A reference with a scope is called in that scope, one without in the scope of
  who holds it, as gin does it.
  """
  use = Use(set(), set())
  queue = [('', root) for root in roots]
  while queue:
    call = queue.pop()
    if call in use.calls:
      continue
    use.calls.add(call)
    scope, selector = call
    for binding in bindings.parameters.values():
      if binding.selector != selector or not _within(scope, binding.scope):
        continue
      for reference in _follow(binding.value, bindings, use):
        queue.append((reference.scope or scope, reference.selector))
  for binding in bindings.overridden:
    for _ in _follow(binding.value, bindings, use):
      pass
  return use


def _within(scope: str, outer: str) -> bool:
  """Returns whether bindings of scope `outer` act in `scope`."""
  return not outer or f'{scope}/'.startswith(f'{outer}/')


def _follow(value: Any, bindings: Bindings, use: Use):
  """Yields the references in a value, through macros, noting these."""
  for leaf in reader.leaves(value):
    if isinstance(leaf, reader.Reference):
      yield leaf
    elif isinstance(leaf, reader.Macro) and leaf.name in bindings.macros:
      use.macros.add(leaf.name)
      yield from _follow(bindings.macros[leaf.name].value, bindings, use)


def check_arguments(bindings: Bindings) -> None:
  """Raises UserError if a component lacks an argument without a default.

  Only of components that the library itself calls, for what calls others may
  give them arguments.
  """
  for binding in bindings.parameters.values():
    kind = SLOTS.get(binding.selector, {}).get(binding.argument)
    value = reader.expand(binding.value, bindings.macros) if kind else None
    for leaf in reader.leaves(value):
      if isinstance(leaf, reader.Reference) and names.split(leaf.selector):
        _check_bound(bindings, leaf.scope or binding.scope, leaf.selector)


def _check_bound(bindings: Bindings, scope: str, selector: str) -> None:
  """Raises UserError if a component, called in a scope, lacks an argument."""
  bound = {
      argument for outer, name, argument in bindings.parameters
      if name == selector and _within(scope, outer)}
  # Actors are given what they act with; see `_misfit_of_head`.
  missing = set(names.required(selector)) - bound - {'action_spec'}
  if missing:
    argument = f'{selector}.{min(missing)}'
    raise errors.UserError(
        f'nothing binds {argument}, which has no default; bind it: '
        f"--gin_param='{argument} = ...'")


def unused(bindings: Bindings, use: Use) -> list[reader.Binding]:
  """Returns the bindings that nothing chosen will use."""
  result = [b for n, b in bindings.macros.items() if n not in use.macros]
  for binding in bindings.parameters.values():
    reached = any(
        selector == binding.selector and _within(scope, binding.scope)
        for scope, selector in use.calls)
    if not reached or names.is_given(binding.selector, binding.argument):
      result.append(binding)
  return result


def check_used(bindings: Bindings, use: Use) -> None:
  """Raises UserError if a binding of the user's will not be used."""
  idle = [b for b in unused(bindings, use) if not b.ours]
  if idle:
    reasons = '; '.join(_reason(b, bindings, use) for b in idle[:_MOST])
    more = f'; and {len(idle) - _MOST} more' if len(idle) > _MOST else ''
    raise errors.UserError(reasons + more)


def _reason(binding: reader.Binding, bindings: Bindings, use: Use) -> str:
  """Returns why a binding is not used, and what to do."""
  start = f'{binding.where}: nothing uses {binding.name}'
  if not binding.selector:
    return f'{start}; {nearest.hint(binding.name, use.macros, "macros in use")}'
  if names.is_given(binding.selector, binding.argument):
    return f'{start}, because the library itself passes it; remove the line'
  scopes = sorted({s for s, c in use.calls if c == binding.selector})
  if scopes:
    listed = ', '.join(repr(s) for s in scopes)
    return (f'{start}, because {binding.selector} is used in the scope '
            f'{listed} only; mend the scope')
  component = names.split(binding.selector)
  chosen = sorted({
      c for _, c in use.calls
      if component and (names.split(c) or '')[:1] == component[:1]})
  slots = sorted({
      b.name.removeprefix('dv3.') for b in bindings.parameters.values()
      for leaf in reader.leaves(reader.expand(b.value, bindings.macros))
      if isinstance(leaf, reader.Reference) and leaf.selector in chosen
      and (b.scope, b.selector) in use.calls})
  if not chosen:
    return f'{start}, because nothing refers to it; choose it or remove this'
  return (
      f'{start}, because {", ".join(chosen)} is chosen ({", ".join(slots)}); '
      f'choose @{binding.selector} there, or remove this')
