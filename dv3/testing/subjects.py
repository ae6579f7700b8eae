"""Components built for the checks, with what they compute."""

import warnings
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dv3 import errors
from dv3 import types
from dv3.distributions import rng as rng_lib
from dv3.testing import small

_BOTH = {**small.VECTOR, **small.IMAGE}
_OBSERVED = {
    'encoder': (_BOTH, small.VECTOR, small.NUMBERS, small.IMAGE),
    # Images last: decoders of numbers take pixels too, and err by hundreds.
    'decoder': (small.VECTOR, small.NUMBERS, small.IMAGE, _BOTH)}
_LEAD = (small.BATCH, small.LENGTH)


class Subject(NamedTuple):
  """A built component.

  Attributes:
    part: the component.
    run: function (seed=0, lead=(B, T)) -> float tensors that it computes. Of
      layers lead are the leading axes; the same numbers come in any of as many
      elements.
    specs: the observations that it was built for, {} for other kinds.
  """

  part: Any
  run: Callable
  specs: types.Specs = {}


def first(kind: str, name: str, kwargs, dtype: str = 'float32') -> Subject:
  """Returns the first of `each`."""
  return next(each(kind, name, kwargs, dtype))


def ends(
    kind: str, name: str, kwargs, dtype: str = 'float32') -> list[Subject]:
  """Returns the first of `each`, and the last where each are decoders.

  A decoder's first are of numbers and its last of images. An encoder's first
  is of both, if it takes both.
  """
  if kind != 'decoder':
    return [first(kind, name, kwargs, dtype)]
  found = list(each(kind, name, kwargs, dtype))
  return [found[0], *found[1:][-1:]]


def each(
    kind: str, name: str, kwargs, dtype: str = 'float32') -> Iterator[Subject]:
  """Yields an encoder or decoder for all observations it takes, others once.

  What a constructor does not take, or a `build` refuses, does not suit the
  part; a warning tells it, unless it was a UserError. A decoder that predicts
  nothing of some is left out, unless it never predicts anything.

  Raises:
    AssertionError: if the part takes none of them.
  """
  if kind not in _OBSERVED:
    yield _single(kind, name, kwargs, dtype)
    return
  refused, idle, found = [], None, False
  for specs in _OBSERVED[kind]:
    try:
      part = small.make(
          kind, name, kwargs, obs_spec=specs, feature_spec=small.FEATURES,
          dtype=dtype)
    except Exception as error:  # noqa: BLE001 - tells that specs do not suit it
      refused.append(_refusal(specs, error))
      continue
    run = _decoded if kind == 'decoder' else _encoded
    subject = Subject(part, _noting(run(part, specs), specs), specs)
    try:
      part.build()
    except (errors.UserError, ValueError) as error:
      refused.append(_refusal(specs, error))
      continue
    if kind == 'decoder' and not part.keys:
      idle = idle or subject
      continue
    found = True
    yield subject
  if idle and not found:
    yield idle
  elif not found:
    raise AssertionError(
        f'{kind}.{name} takes none of the observations: {"; ".join(refused)}')


def _refusal(specs, error) -> str:
  """Returns why a part does not take observations."""
  text = f'{sorted(specs)}: {error}'
  if not isinstance(error, errors.UserError):
    warnings.warn(
        f'not tried with {text} ({type(error).__name__})', stacklevel=2)
  return text


def _encoded(part, specs):
  return lambda seed=0, lead=_LEAD: [
      part(small.observations(specs, lead, seed))]


def _decoded(part, specs):
  def run(seed=0, lead=_LEAD):
    obs = small.observations(specs, lead, seed)
    return [dist.log_prob(obs[key]) for key, dist in sorted(
        part(small.features(lead, seed)).items())]
  return run


def _noting(run, specs):
  """Has errors of a call say for which observations."""
  def noted(seed=0, lead=_LEAD):
    try:
      return run(seed, lead)
    except Exception as error:
      error.add_note(
          f'It was built for {sorted(specs)} without an error; what a part is '
          'not made for, its constructor refuses.')
      raise
  return noted


def _single(kind, name, kwargs, dtype):
  """Returns the `Subject` of a part that sees no observations."""
  part = small.make(
      kind, name, kwargs, feature_spec=small.FEATURES,
      action_spec=small.ACTION, dtype=dtype)
  part.build()
  if kind == 'head':
    targets = {}
    def run(seed=0, lead=_LEAD):
      dist = part(small.features(lead, seed))
      if tf.executing_eagerly() and seed not in targets:
        # Drawn once: TFP draws other numbers in compiled code.
        targets[seed] = target(part(small.features(seed=seed)))
      if seed not in targets:
        return [dist.log_prob(target(dist))]
      event = targets[seed].shape[len(_LEAD):]
      return [dist.log_prob(tf.reshape(targets[seed], [*lead, *event]))]
    return Subject(part, run)
  if kind == 'normalizer':
    return Subject(part, lambda seed=0: part.update(
        tf.random.stateless_normal([40, 5], (1, seed)) * 10.0 ** (seed + 1)))
  return Subject(part, lambda seed=0: observed(part, seed)[0])


def target(dist):
  """Returns an event of a distribution, away from where gradients vanish."""
  for name in ('mode', 'mean'):
    try:
      value = getattr(dist, name)()
    except (AttributeError, NotImplementedError):
      continue
    if value.dtype.is_floating and (
        not tf.executing_eagerly() or np.isfinite(value).all()):
      return tf.stop_gradient(value) * 0.5
  return tf.stop_gradient(rng_lib.Rng(7).sample(dist))


def core_inputs(seed: int = 0):
  """Returns (tokens, previous actions, is_first) of sequences with resets."""
  sizes = small.SIZES
  # By NumPy: TensorFlow's own numbers differ between eager and compiled code.
  draw = lambda size, i: tf.constant(np.random.default_rng((seed, i)).normal(
      size=(*_LEAD, size)), tf.float32)
  is_first = tf.constant(
      np.arange(small.LENGTH) == np.array([[0], [2], [9]]))
  return draw(sizes['token_size'], 0), draw(sizes['action_size'], 1), is_first


def observed(part, seed: int = 0, rng=None):
  """Returns ([float tensors], latents, state) of an observed sequence."""
  latents, state = part.observe(
      *core_inputs(seed), part.initial(small.BATCH), rng or rng_lib.Rng(3))
  values = [*part.features(latents).values(), *part.kl(latents)]
  return values, latents, state


def fill_zeros(variables) -> None:
  """Gives variables that are all zero, which hide others, random values."""
  for variable in variables:
    if not np.any(variable.numpy()):
      variable.assign(tf.cast(
          tf.random.stateless_normal(variable.shape, (0, 1)), variable.dtype))


def scramble(variables) -> None:
  """Gives variables of any type other values."""
  rng = np.random.default_rng(9)
  for variable in variables:
    shape = variable.shape
    variable.assign(tf.cast(
        rng.normal(size=shape) if variable.dtype.is_floating
        else rng.integers(1, 100, shape), variable.dtype))


def reached(gradients) -> list[bool]:
  """Returns for each gradient whether there is one that is not zero."""
  return [
      g is not None and bool(np.any(tf.convert_to_tensor(g)))
      for g in gradients]


def unreached(variables, gradients) -> list[str]:
  """Returns the names of variables without a gradient."""
  return [
      v.name for v, found in zip(variables, reached(gradients), strict=True)
      if not found]
