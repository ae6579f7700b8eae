"""Nearest names, for errors about a name that does not exist."""

import difflib
from collections.abc import Iterable

_MOST = 12  # Names that a message lists.


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
  """Returns up to `count` of `names` that resemble `name`, best first.

  Dotted names are compared as a whole and by their last part, so that
  'rssm' finds 'core.rssm'; case does not matter.
  """
  def score(candidate: str) -> float:
    pairs = [(name, candidate), (name, candidate.rpartition('.')[2])]
    return max(
        difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()
        for a, b in pairs)

  scores = {candidate: score(candidate) for candidate in sorted(set(names))}
  best = sorted(scores, key=lambda candidate: -scores[candidate])
  return [candidate for candidate in best if scores[candidate] > 0.6][:count]


def hint(name: str, names: Iterable[str], noun: str = 'known') -> str:
  """Returns 'did you mean x or y?', or the list of names where none is near.

  Args:
    name: what the user wrote.
    names: what exists.
    noun: what stands before the list, for example 'known cores'.
  """
  names = sorted(set(names))
  close = nearest(name, names)
  if close:
    return f'did you mean {" or ".join(close)}?'
  shown = ', '.join(names[:_MOST]) or 'none'
  more = f' and {len(names) - _MOST} more' if len(names) > _MOST else ''
  return f'{noun}: {shown}{more}'
