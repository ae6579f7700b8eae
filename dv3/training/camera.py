"""Videos of what an agent saw while it played."""

import pathlib

import numpy as np

from dv3 import errors
from dv3 import types
from dv3.loggers import files
from dv3.loggers import gif


class Camera:
  """Films the first episode of the first environment, as the agent sees it.

  Args:
    path: of the .gif to write.
    obs_spec: the observations; the first image among them is filmed.

  Raises:
    UserError: for another path, or if there is no image.
  """

  def __init__(self, path: str, obs_spec: types.Specs):
    if not path.endswith('.gif'):
      raise errors.UserError(f'--video={path} must end with .gif')
    images = sorted(name for name, spec in obs_spec.items() if spec.is_image)
    if not images:
      raise errors.UserError(
          '--video has nothing to show, since the agent observes no image '
          f'({", ".join(sorted(obs_spec))})')
    self._path = pathlib.Path(path)
    self._name = images[0]
    self._frames: list[np.ndarray] = []
    self._over = False

  def before(self, policy):
    """Returns the policy, with this camera in front of it."""
    self._policy = policy
    return self

  def initial(self, num_envs):
    return self._policy.initial(num_envs)

  def __call__(self, obs, is_first, state, call_index):
    self._over |= bool(self._frames and is_first[0])
    if not self._over:
      self._frames.append(np.array(obs[self._name][0]))
    return self._policy(obs, is_first, state, call_index)

  def write(self) -> None:
    """Writes the file, folders included."""
    video = np.stack(self._frames)
    video = video if video.ndim == 4 else video[..., None]
    if video.shape[-1] not in (1, 3):
      video = video[..., -1:]  # The newest of frames in a stack.
    files.write_whole(self._path, gif.encode(video, 20.0))
