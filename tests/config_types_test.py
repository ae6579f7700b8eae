"""Which values fit which annotations."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Annotated
from typing import Any
from typing import Literal
from typing import Optional
from typing import Union

import pytest

from dv3.config import reader
from dv3.config import types

PART = reader.Reference('', 'core.rssm', False)
MADE = reader.Reference('', 'core.rssm', True)


class Custom:
  pass


OLD_STYLE = Optional[int], Union[int, str]  # noqa: UP007, UP045


@pytest.mark.parametrize('value, annotation', [
    (1, int), (-1, int), (1.5, float), (1, float), (True, bool), ('a', str),
    (None, None), (None, type(None)), (None, OLD_STYLE[0]), (3, int | None),
    ('a', OLD_STYLE[1]), ((1, 2), tuple), ((1, 2), tuple[int, ...]),
    ((), tuple[int, ...]), ((1, 'a'), tuple[int, str]), ([1], list[int]),
    ([1], list), ({'a': 1}, dict), ({'a': 1.0, 'b': 2}, dict[str, float]),
    ({'a': (1,)}, Mapping[str, tuple[int, ...]]), ([1], Sequence[int]),
    ((1,), Iterable[int]), ('x', Literal['x', 'y']), (3, Annotated[int, 'u']),
    (3, Any), ([], object), (PART, Callable), (PART, Callable | None),
    ((PART, PART), tuple[Callable, ...]), (PART, Any), (PART, type),
    (PART, Custom), (MADE, int), (MADE, Custom), ('literal', Custom),
    ((('a', ('*',), PART),), tuple), (reader.Macro('some.CONSTANT'), int),
])
def test_fits(value, annotation):
  assert types.fits(value, annotation)


@pytest.mark.parametrize('value, annotation', [
    (1.0, int), (True, int), ('1', int), (None, int), ('a', float),
    (False, float), (1, bool), ('True', bool), (1, str), (1, None),
    ('a', int | None), ([1, 2], tuple[int, ...]), ((1, 'a'), tuple[int, ...]),
    ((1,), tuple[int, str]), ((1, 2, 3), tuple[int, int]), ((1,), list),
    (['a'], list[int]), ({'a': 'b'}, dict[str, float]), ({1: 1.0}, Mapping[
        str, float]), ([1], dict), ('abc', Sequence[str]),
    ('z', Literal['x', 'y']), ('3', Annotated[int, 'u']), (3, Callable),
    ('relu', Callable | None), (PART, int), (PART, float | None),
    (PART, str), (PART, tuple[int, ...]), (PART, dict[str, float]),
    (PART, Literal['x']), ((1, PART), tuple[int, ...]),
])
def test_does_not_fit(value, annotation):
  assert not types.fits(value, annotation)
