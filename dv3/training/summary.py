"""What a start says about the run."""

import json
import sys
from typing import Any

from dv3 import errors
from dv3.replay import replay as replay_lib
from dv3.training import distribution as distribution_lib
from dv3.training import run


def summarize(
    agent, strategy, specs, capacity, chunk_steps, workers, stored_length,
    replayed_steps_per_env_step, batch_steps
) -> dict[str, Any]:
  """Returns the JSON summary of `dv3-train --dry_run`."""
  return {
      'parameters': run.parameter_counts(agent),
      'replay_bytes': replay_lib.projected_bytes(
          specs, capacity, chunk_steps=chunk_steps, workers=workers,
          length=stored_length),
      'replayed_steps_per_env_step': replayed_steps_per_env_step,
      'updates_per_env_step': replayed_steps_per_env_step / batch_steps,
      'device': distribution_lib.describe(strategy),
      'dtype': agent.compute_dtype}


def line(summary: dict[str, Any]) -> str:
  """Returns what `summarize` found, in one line for people."""
  return (
      f'{summary["parameters"]["total"]:,} parameters, {summary["dtype"]} on '
      f'{summary["device"]}; replay takes up to '
      f'{summary["replay_bytes"] / 1e9:.3g} GB; '
      f'{summary["replayed_steps_per_env_step"]:g} replayed steps per env step '
      f'are {summary["updates_per_env_step"]:.3g} updates per env step')


def print_json(summary: dict[str, Any]) -> None:
  """Prints the dry run's JSON line.

  Raises:
    UserError: after the line, if replay cannot fit in memory.
  """
  print(json.dumps(summary))
  sys.stdout.flush()
  shortage = replay_lib.shortage(summary['replay_bytes'])
  if shortage:
    raise errors.UserError(shortage)
