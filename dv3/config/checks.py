"""What must hold of a configuration before gin sees it."""

import os
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from dv3 import errors
from dv3 import nearest
from dv3 import signatures
from dv3.config import files
from dv3.config import names
from dv3.config import reader
from dv3.config import types

_MOST = 5  # Problems that one message lists.


class Bindings(NamedTuple):
  """A configuration after the last binding of each name won.

  Attributes:
    macros: by name.
    parameters: by (scope, full selector, argument).
    undone: macros by name whose value a later declaration took back.
    overridden: what a flag's parameter replaced. A macro that it refers to is
      not idle: who gives a flag need not edit files.
  """

  macros: dict[str, reader.Binding]
  parameters: dict[tuple[str, str, str], reader.Binding]
  undone: dict[str, reader.Binding]
  overridden: list[reader.Binding]


def merge(bindings: Iterable[reader.Binding]) -> Bindings:
  """Lets later bindings win over earlier ones."""
  result = Bindings({}, {}, {}, [])
  for binding in bindings:
    if binding.selector:
      if binding.from_flag and binding.key in result.parameters:
        result.overridden.append(result.parameters[binding.key])
      result.parameters[binding.key] = binding
      continue
    name = binding.argument
    old = result.macros.get(name)
    if old and is_required(binding.value) and not is_required(old.value):
      result.undone[name] = old
    elif not is_required(binding.value):
      result.undone.pop(name, None)
    result.macros[name] = binding
  return result


def is_required(value: Any) -> bool:
  """Returns whether a value declares a choice that others must make."""
  return value == reader.Macro(reader.REQUIRED)


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
  found = files.binding(macro)
  return f' (--gin_file={found[0]} binds it)' if found else ''


def check_choices(bindings: Bindings) -> None:
  """Raises UserError if a declared choice was not made, naming the remedy."""
  for name, old in bindings.undone.items():
    raise errors.UserError(
        f'{name}, given in {old.where}, is declared again by '
        f'{bindings.macros[name].where}; give the base file first, then size, '
        'task, variant, dist')
  missing = [n for n, b in bindings.macros.items() if is_required(b.value)]
  missing += [b.name for b in bindings.parameters.values()
              if is_required(b.value)]
  if not missing:
    return
  remedies: dict[str, list[str]] = {}
  for name in missing:
    found = files.binding(name)
    kind = os.path.dirname(found[0]) if found else ''
    if kind:
      remedy = (f'give a {kind}, for example --gin_file={found[0]} '
                f'({", ".join(found)})')
    else:
      remedy = f"give --gin_param='{name} = ...'"
    remedies.setdefault(remedy, []).append(name)
  raise errors.UserError('; '.join(
      f'nobody chose {", ".join(group)}: {remedy}'
      for remedy, group in remedies.items()))


def check_types(bindings: Bindings) -> None:
  """Raises UserError if a value does not fit its parameter's annotation."""
  for binding in bindings.parameters.values():
    factory = names.factory(binding.selector)
    annotation = signatures.hints(factory).get(binding.argument, Any)
    value = reader.expand(binding.value, bindings.macros)
    if types.fits(value, annotation):
      continue
    wanted = signatures.type_text(annotation)
    source = [binding.where]
    if value != binding.value:
      source += [
          f'{leaf!r} in {bindings.macros[leaf.name].where}'
          for leaf in reader.leaves(binding.value)
          if isinstance(leaf, reader.Macro) and leaf.name in bindings.macros]
    raise errors.UserError(
        f'{" with ".join(source)}: {binding.name} must be {wanted}, not '
        f'{value!r} ({_kind(value)})')


def _kind(value: Any) -> str:
  if isinstance(value, reader.Reference):
    return 'a reference'
  return type(value).__name__


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
