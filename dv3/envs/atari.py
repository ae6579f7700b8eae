"""Atari games by the published protocols."""

import importlib.util
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from dv3 import errors
from dv3 import nearest
from dv3 import registry

_RESIZE = ('bilinear', 'area', 'nearest')
_LIVES = ('unused', 'discount', 'reset')


@registry.register('env', 'atari')
def make(
    *, game: str = 'pong', sticky: bool = False, repeat: int = 4,
    pooling: int = 2, noops: int = 30, full_actions: bool = False,
    lives: str = 'unused', grey: bool = False,
    size: tuple[int, int] = (64, 64), resize: str = 'bilinear',
    max_frames: int = 108_000, clip_reward: bool = False) -> gymnasium.Env:
  """Makes an Atari game; the package ale-py carries the games.

  The defaults are the Atari 100k protocol: no sticky actions, four frames an
  env step, random no-ops at the start, the game's own actions, RGB.

  Args:
    game: in snake case, for example 'ms_pacman'.
    sticky: whether an action repeats with probability 0.25 (Machado et al.
      2018), as in the 200M-frame protocol.
    repeat: frames of one env step; fewer where the game or a life ends.
    pooling: the observation is the maximum over so many last frames of the
      episode.
    noops: at most so many random no-op frames at a reset.
    full_actions: all 18 actions in place of the game's own.
    lives: 'unused'; 'discount', where losing a life is terminal for learning
      but the game goes on in the next episode; 'reset', where it also resets
      the game.
    grey: one channel in place of RGB.
    size: rows and columns of the observation.
    resize: 'bilinear', Pillow's with a filter as wide as the reduction, as in
      the reference; or OpenCV's 'area' or 'nearest'.
    max_frames: frames until an episode is truncated.
    clip_reward: whether rewards become their signs.

  Raises:
    UserError: for an unknown game or option, or if ale-py is not installed.

  Source: Mnih et al. 2015; Machado et al. 2018; danijar/dreamerv3 e3f0224.
  """
  for name in ('ale_py', 'cv2'):
    if importlib.util.find_spec(name) is None:
      raise errors.UserError(
          f'env.atari needs {name}, which is not installed; '
          f'{errors.pip_install("dv3[atari]")}')
  import ale_py
  if lives not in _LIVES or resize not in _RESIZE:
    raise errors.UserError(
        f'env.atari.lives is one of {_LIVES}, env.atari.resize one of '
        f'{_RESIZE}; not {lives!r} and {resize!r}')
  if min(repeat, pooling, max_frames, *size) < 1 or noops < 0:
    raise errors.UserError(
        'env.atari: repeat, pooling, max_frames and size are at least 1, noops '
        f'at least 0; not {repeat}, {pooling}, {max_frames}, {size}, {noops}')
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # No banner.
  gymnasium.register_envs(ale_py)
  camel = ''.join(x.capitalize() for x in game.split('_'))
  identifier = f'ALE/{camel}-v5'
  if identifier not in gymnasium.registry:
    games = [
        _snake(x[4:-3]) for x in gymnasium.registry if x.startswith('ALE/')]
    raise errors.UserError(
        f'there is no Atari game {game!r}; {nearest.hint(game, games)}')
  raw = gymnasium.make(
      identifier, frameskip=1, full_action_space=full_actions,
      repeat_action_probability=0.25 if sticky else 0.0,
      max_num_frames_per_episode=10 ** 9).unwrapped
  return Atari(
      raw, repeat=repeat, pooling=pooling, noops=noops, lives=lives,
      grey=grey, size=tuple(size), resize=resize, max_frames=max_frames,
      clip_reward=clip_reward)


def _snake(name: str) -> str:
  """Turns 'MsPacman' into 'ms_pacman'."""
  return ''.join(
      f'_{c.lower()}' if c.isupper() and i else c.lower()
      for i, c in enumerate(name))


class Atari(gymnasium.Env):
  """Frame repeat, pooling, no-ops, lives and resizing around raw frames.

  Args:
    raw: an environment of single RGB frames with `ale.lives()`.
    **options: see `make`.
  """

  def __init__(
      self, raw: gymnasium.Env, *, repeat, pooling, noops, lives, grey, size,
      resize, max_frames, clip_reward):
    self._raw: Any = raw
    self._repeat, self._noops, self._lives_mode = repeat, noops, lives
    self._grey, self._size, self._resize = grey, size, resize
    self._max_frames, self._clip_reward = max_frames, clip_reward
    self._pool: list[np.ndarray] = []
    self._pooling = pooling
    self._over = True
    self.action_space = raw.action_space
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (*size, 1 if grey else 3), np.uint8)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    # What an earlier episode showed must not be in the first maximum.
    self._pool = []
    if self._over or self._lives_mode != 'discount':
      frame, info = self._raw.reset(seed=seed, options=options)
      self._frames = 0
      for _ in range(int(self.np_random.integers(self._noops + 1))):
        frame, _, terminated, _, info = self._raw.step(0)
        if terminated:
          frame, info = self._raw.reset()
    else:
      frame, _, terminated, _, info = self._raw.step(0)
      self._frames += 1
      if terminated:
        frame, info = self._raw.reset()
        self._frames = 0
    self._over = False
    self._lives = self._raw.ale.lives()
    self._pool.append(frame)
    return self._observe(), info

  def step(self, action):
    total, lost, terminated, truncated, info = 0.0, False, False, False, {}
    for _ in range(self._repeat):
      frame, reward, terminated, _, info = self._raw.step(action)
      self._frames += 1
      total += float(reward)
      self._pool = [*self._pool, frame][-self._pooling:]
      lives = self._raw.ale.lives()
      # The last life is the game's own end, perhaps some frames later.
      lost = self._lives_mode != 'unused' and 0 < lives < self._lives
      self._lives = lives
      truncated = self._frames >= self._max_frames
      if terminated or lost or truncated:
        break
    self._over = terminated or truncated
    terminated = terminated or lost
    truncated = truncated and not terminated
    if self._clip_reward:
      total = float(np.sign(total))
    return self._observe(), total, terminated, truncated, info

  def close(self):
    self._raw.close()

  def _observe(self):
    image = np.max(self._pool, axis=0)
    rows, columns = self._size
    if self._resize == 'bilinear':
      image = np.asarray(Image.fromarray(image).resize(
          (columns, rows), Image.Resampling.BILINEAR))
    else:
      import cv2
      modes = {'area': cv2.INTER_AREA, 'nearest': cv2.INTER_NEAREST}
      image = cv2.resize(
          image, (columns, rows), interpolation=modes[self._resize])
    if self._grey:
      weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
      image = np.round(image @ weights).astype(np.uint8)[..., None]
    return image
