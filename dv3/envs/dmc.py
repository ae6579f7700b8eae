"""The DeepMind Control Suite."""

import os

import gymnasium
import numpy as np

from dv3 import errors
from dv3 import registry
from dv3.envs import dm
from dv3.envs import extras
from dv3.envs import wrappers

_CAMERAS = {'quadruped': 2}


@registry.register('env', 'dmc')
def make(
    *, task: str, image: tuple[int, int] | None = None,
    action_repeat: int = 1, camera: int = -1, gl: str = 'egl',
    fast_rendering: bool = False) -> gymnasium.Env:
  """Makes a control task by its name, for example 'walker_walk'.

  Episodes are 1,000 inner steps, after which they are truncated; nothing is
  terminal. It must not share a process with TensorFlow if it renders, which
  dv3's collectors see to.

  Args:
    task: domain and task, joined by '_'; 'cup' is 'ball_in_cup'.
    image: rows and columns of the picture to observe in place of positions and
      velocities; None keeps these.
    action_repeat: inner steps of one env step; 2 in the published curves, 1 in
      today's code.
    camera: which camera; -1 means the usual one, 2 for quadruped, else 0.
    gl: 'egl' or 'osmesa', how pictures are drawn without a screen.
    fast_rendering: leaves out shadows, reflections and multisampling, for 4 to
      6 times the speed in software; the pictures are not the published ones.

  Raises:
    UserError: if there is no such task, or dm_control is not installed.

  Source: Tassa et al. 2018; danijar/dreamerv3 e3f0224, `dmc`.
  """
  # Read when dm_control is imported; without pictures it needs no library.
  os.environ.setdefault('MUJOCO_GL', gl if image else 'disabled')
  suite = extras.load('dm_control.suite', 'env.dmc', 'dmc')
  # Domains have underscores too: point_mass, humanoid_CMU.
  known = {'_'.join(x): x for x in suite.ALL_TASKS}
  full = f'ball_in_{task}' if task.startswith('cup_') else task
  if full not in known:
    raise errors.UserError(
        f'env.dmc.task {task!r} is not one of {", ".join(sorted(known))}')
  domain, name = known[full]
  inner = suite.load(domain, name)
  env = dm.DMEnv(inner, lambda seed: inner.task.random.seed(seed))
  if image:
    if camera < 0:
      camera = _CAMERAS.get(domain, 0)
    env = dm.Pixels(env, _renderer(inner, image, camera, fast_rendering), image)
  if action_repeat != 1:
    env = wrappers.ActionRepeat(env, action_repeat)
  return env


def _renderer(inner, size, camera, fast):
  """Returns a function () -> uint8 [rows, columns, 3]."""
  kwargs = {}
  if fast:
    quality = inner.physics.model.vis
    quality.quality.offsamples = 0
    quality.quality.shadowsize = 0
    kwargs['render_flag_overrides'] = {'shadow': False, 'reflection': False}
  return lambda: np.array(inner.physics.render(
      *size, camera_id=camera, **kwargs), np.uint8)
