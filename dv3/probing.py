"""Whether an agent's parts fit together, before anything is traced."""

from collections.abc import Mapping

import tensorflow as tf

from dv3 import errors

_NEEDED = {
    'reward': ('log_prob', 'mean'), 'continue': ('log_prob', 'mean'),
    'critic': ('log_prob', 'mean'), 'actor': ('log_prob', 'sample')}
"""What dreams and most losses ask of heads' distributions."""


def check(agent) -> None:
  """Calls encoder, decoder and heads of a built agent once, on zeros.

  What does not fit is then told where it can be mended, also in a dry run, and
  not from the inside of a loss. It is one step [1, 1], eagerly.

  Args:
    agent: an `Agent` whose parts are built.

  Raises:
    UserError: naming the part, what it returned and what is expected.
  """
  zeros = lambda spec: tf.zeros([1, 1, *spec.shape], spec.dtype)
  agent.encode({key: zeros(spec) for key, spec in agent.obs_spec})
  features = {
      name: tf.zeros([1, 1, size])
      for name, size in agent.core.feature_spec.items()}
  decoder = agent.decoder
  predicted = decoder(features)
  keys = sorted(predicted) if isinstance(predicted, Mapping) else (
      _what(predicted))
  if keys != sorted(decoder.keys):
    raise errors.UserError(
        f'{type(decoder).__name__} returned {keys}, but its keys are '
        f'{sorted(decoder.keys)}; return a dictionary of just these, with a '
        'distribution for each (dv3.interfaces.Decoder)')
  for key, dist in predicted.items():
    _require(dist, ('log_prob',), f'{type(decoder).__name__} for {key!r}')
  for name, methods in _NEEDED.items():
    head = agent.parts[name]
    _require(
        head(features), methods, f'{type(head).__name__}, the {name} head,')


def _require(dist, methods, who):
  """Raises UserError for what is no distribution."""
  missing = [x for x in methods if not callable(getattr(dist, x, None))]
  if missing:
    raise errors.UserError(
        f'{who} returned {_what(dist)} without {", ".join(missing)}; return a '
        'distribution, of dv3.distributions or tfp.distributions')


def _what(value) -> str:
  """Describes what was returned in place of something else."""
  if tf.is_tensor(value):
    return f'a tensor {tuple(value.shape)}'
  return f'a {type(value).__name__}'
