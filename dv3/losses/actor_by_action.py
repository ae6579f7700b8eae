"""The actor's loss by the kind of the actions."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry


@registry.register('loss', 'actor_by_action')
class ByActionLoss(tf.Module, interfaces.Loss):
  """One loss where all actions are numbers, another where some are classes.

    actor = continuous(context) or discrete(context)             [B, T]

  Args:
    discrete: factory of the loss where any action is a class index; REINFORCE
      by default, which suits every kind of action.
    continuous: factory of the loss where all actions are numbers;
      backpropagation through the dynamics by default.

  Source: Hafner et al. 2023 (arXiv v1), section "Actor critic learning";
    danijar/dreamerv2 0216d33, `actor_grad: auto`.
  """

  PHASE = 'behavior'
  NAMES = ('actor',)

  def __init__(
      self, *, discrete: Callable | None = None,
      continuous: Callable | None = None):
    super().__init__(name='actor_by_action')
    self._choices = (
        continuous or registry.get('loss', 'actor_backprop'),
        discrete or registry.get('loss', 'actor_reinforce'))
    self.chosen: Any = None

  @property
  def imagination_gradient(self) -> bool:
    """As the chosen loss says; the choice is made in `build`."""
    return self.chosen is not None and self.chosen.imagination_gradient

  @property
  def across_replicas(self) -> str:
    """As the chosen loss says."""
    return self.chosen.across_replicas if self.chosen else 'never'

  def build(self, parts):
    discrete = any(spec.is_discrete for _, spec in parts['actor'].action_spec)
    self.chosen = self._choices[discrete]()
    self.chosen.build(parts)

  def statistics(self, context):
    return self.chosen.statistics(context)

  def __call__(self, context):
    if self.chosen is None:
      raise errors.UserError(
          'loss.actor_by_action is not built; call its build() first')
    return self.chosen(context)
