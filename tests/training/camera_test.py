"""What is filmed, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from dv3 import errors
from dv3 import types
from dv3.training import camera as camera_lib

SPEC = {
    'picture': types.Spec((8, 6, 3), 'uint8'),
    'grey': types.Spec((8, 6, 4), 'uint8'), 'speed': types.Spec((), 'float32')}


class Policy:
  def initial(self, num_envs):
    return num_envs

  def __call__(self, obs, is_first, state, call_index):
    return call_index, {}, state


@pytest.mark.parametrize('names', [('picture', 'speed'), ('grey', 'picture')])
def test_the_first_episode_of_the_first_environment_is_filmed(
    tmp_path, names):
  path = tmp_path / 'folder' / 'first.gif'
  camera = camera_lib.Camera(str(path), {name: SPEC[name] for name in names})
  policy = camera.before(Policy())
  state = policy.initial(2)
  assert state == 2
  # Four steps; the second environment begins anew before.
  for t, first in enumerate([(1, 1), (0, 0), (0, 1), (0, 0), (1, 0), (0, 0)]):
    obs = {
        name: np.full((2, *SPEC[name].shape), 40 * t, SPEC[name].dtype)
        for name in names}
    obs[names[0]][1] = 255
    action, _, state = policy(obs, np.array(first, bool), state, t)
    assert action == t
  camera.write()
  with Image.open(path) as film:
    assert film.n_frames == 4 and film.size == (6, 8)
    shown = []
    for number in range(4):
      film.seek(number)
      shown.append(np.array(film.convert('RGB'))[0, 0].tolist())
  assert shown == [[40 * t] * 3 for t in range(4)]


@pytest.mark.parametrize('path, spec, message', [
    ('film.mp4', SPEC, 'film.mp4 must end with .gif'),
    ('film.gif', {'speed': SPEC['speed']}, r'observes no image \(speed\)')])
def test_what_cannot_be_filmed_is_one_clear_line(path, spec, message):
  with pytest.raises(errors.UserError, match=message):
    camera_lib.Camera(path, spec)
