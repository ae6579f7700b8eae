"""What the library's encoders, decoders and heads share; making parts."""

import functools
from collections.abc import Callable

import tf_keras as keras

from dv3 import errors
from dv3 import signatures


class Part(keras.layers.Layer):
  """A layer that is built before it is used.

  Keras builds a layer when it is first called. Parts make their variables in
  `build()` alone, so that none arises outside of a strategy's scope or inside
  of what is traced.

  Args:
    dtype: a Keras dtype policy.

  Raises:
    UserError: in a call before `build()`, and where `trainable_variables` is
      read before it, which Keras would answer with an empty list.
  """

  def __init__(self, *, dtype: str):
    super().__init__(autocast=False, dtype=dtype)

  def __call__(self, *args, **kwargs):
    self._check_built()
    return super().__call__(*args, **kwargs)

  @property
  def trainable_variables(self):
    self._check_built()
    return super().trainable_variables

  def _check_built(self) -> None:
    if not self.built:
      raise errors.UserError(
          f'{type(self).__name__} is not built; call its build() first, under '
          'the scope of the strategy if there is one')


def once(build):
  """Decorates a part's `build`, so that a second call changes nothing.

  It would make other variables, and an optimizer go on with the first ones.
  """
  @functools.wraps(build)
  def run(self, *args, **kwargs):
    if not self.built:
      build(self, *args, **kwargs)
  return run


def make(factory: Callable, *, dtype: str, **given):
  """Calls the factory of an encoder, core, decoder or head.

  Args:
    factory: a class, a gin reference, a `functools.partial` or a function.
    dtype: a Keras dtype policy, passed on to factories that accept it.
    **given: the specs and sizes that the library gives to parts of its kind.

  Raises:
    UserError: for another policy than float32 if the factory accepts none.
  """
  if takes_dtype(factory):
    return factory(dtype=dtype, **given)
  if dtype != 'float32':
    raise errors.UserError(
        f'{getattr(_inner(factory), "__name__", factory)} cannot compute in '
        f'{dtype.removeprefix("mixed_")}, as its constructor has no argument '
        "dtype; add one, or leave Agent.compute_dtype at 'float32'")
  return factory(**given)


def takes_dtype(factory: Callable) -> bool:
  """Returns whether a factory accepts the argument `dtype`."""
  names = signatures.accepted(_inner(factory))
  return names is None or 'dtype' in names


def _inner(factory):
  """Returns what a `functools.partial` calls in the end."""
  while isinstance(factory, functools.partial):
    factory = factory.func
  return factory
