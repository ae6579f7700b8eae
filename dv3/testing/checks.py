"""The checks of each kind, by name."""

import inspect
from collections.abc import Callable
from typing import Any

from dv3.testing import core_checks
from dv3.testing import env_checks
from dv3.testing import host_checks
from dv3.testing import learning_checks
from dv3.testing import model_checks
from dv3.testing import replicas


def two_replicas_stay_equal(kind, name, kwargs):
  """Copies of each variable are equal after updates on two replicas."""
  problem = replicas.report([(kind, name, kwargs)])[f'{kind}.{name}']
  assert not problem, problem


_LAYERS = (
    two_replicas_stay_equal,
    model_checks.shapes_and_dtypes,
    model_checks.gradients_reach_every_variable,
    model_checks.bfloat16_keeps_variables_float32,
    model_checks.compiled_equals_eager, model_checks.checkpoint_round_trip)

CHECKS: dict[str, tuple[Callable, ...]] = {
    'encoder': _LAYERS, 'decoder': _LAYERS, 'head': _LAYERS,
    'core': (
        *_LAYERS, core_checks.steps_equal_sequences,
        core_checks.steps_draw_anew, core_checks.resets_forget,
        core_checks.replay_round_trip, core_checks.starts_are_the_latents,
        model_checks.used_unbuilt_says_so),
    'loss': (
        learning_checks.loss_is_unreduced, learning_checks.loss_trains,
        learning_checks.loss_calls_repeat,
        learning_checks.loss_checkpoint_round_trip),
    'balancer': (
        learning_checks.balancer_sums_to_a_scalar,
        learning_checks.balancer_trains_its_variables,
        learning_checks.balancer_calls_repeat,
        learning_checks.balancer_checkpoint_round_trip),
    'normalizer': (
        model_checks.normalizer_tracks,
        model_checks.normalizer_checkpoint_round_trip,
        two_replicas_stay_equal),
    'optimizer': (
        learning_checks.optimizer_descends,
        learning_checks.optimizer_steps_repeat,
        learning_checks.optimizer_checkpoint_round_trip),
    'sampler': (host_checks.sampler_draws_what_is_stored,),
    'exploration': (host_checks.exploration_keeps_actions_valid,),
    'env': (env_checks.env_keeps_gymnasiums_contract,),
    'collector': (host_checks.collector_hands_on_every_step,),
    'transform': (host_checks.transform_loses_no_step,),
    'scaling': (host_checks.scaling_leaves_one_replica,),
    'logger': (host_checks.logger_takes_everything,)}


def run(check: Callable, kind: str, name: str, kwargs: dict[str, Any], folder):
  """Runs one check of a component.

  Args:
    check: one of `CHECKS[kind]`.
    kind: registry kind.
    name: registered name.
    kwargs: the author's own constructor arguments.
    folder: an empty folder (pathlib.Path) for what the check writes.

  Raises:
    AssertionError: if the component does not keep the contract.
  """
  extra = {'folder': folder} if (
      'folder' in inspect.signature(check).parameters) else {}
  check(kind, name, kwargs, **extra)
