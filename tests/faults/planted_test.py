"""Nothing that is read from a run directory can execute code."""

import json
import pathlib
import shutil

import lives
import numpy as np
import pytest


class Bomb:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


@pytest.fixture(name='run')
def make_run(reference, tmp_path):
  """A copy of a run, and the file that a bomb would make."""
  logdir = tmp_path / 'run'
  shutil.copytree(reference, logdir)
  return logdir, tmp_path / 'exploded'


def plant(path, bomb):
  """Puts pickles into every entry of an archive, and sums the manifest anew."""
  from dv3.training import checkpoints
  with np.load(path, allow_pickle=False) as archive:
    names = archive.files
  value = np.empty(1, object)
  value[0] = Bomb(bomb)
  np.savez(path, **dict.fromkeys(names, value))
  folder = next(x for x in path.parents if x.name.startswith('step-'))
  manifest = json.loads((folder / 'manifest.json').read_text())
  name = str(path.relative_to(folder))
  manifest[name] = checkpoints._checksum(path)
  (folder / 'manifest.json').write_text(json.dumps(manifest))
  assert checkpoints.find_damage(folder) is None


def test_a_bomb_is_a_bomb(tmp_path):
  value = np.empty(1, object)
  value[0] = Bomb(tmp_path / 'exploded')
  np.savez(tmp_path / 'x.npz', x=value)
  with np.load(tmp_path / 'x.npz', allow_pickle=True) as archive:
    archive['x']
  assert (tmp_path / 'exploded').exists()


@pytest.mark.parametrize('name, code', [
    ('state.npz', 2), *(
        pytest.param(f'replay/{name}.npz', code, marks=pytest.mark.slow)
        # Chunks that cannot be read are left out.
        for name, code in (
            ('index', 2), ('sampler', 2), ('chunks', 0), ('latents', 0)))])
def test_pickles_in_a_checkpoint(zygote, run, name, code):
  logdir, exploded = run
  plant(lives.checkpoints(logdir)[-1] / name, exploded)
  output = lives.live(zygote, logdir, '--gin_param=STEPS = 140', code=code)
  assert len(output.strip().splitlines()[-1]) < 500
  assert not exploded.exists()


def test_pickles_in_replay_are_not_loaded(run):
  import zlib

  from dv3.replay import storage
  logdir, exploded = run
  path = sorted((logdir / 'replay').glob('chunk-*.npz'))[0]
  value = np.empty(1, object)
  value[0] = Bomb(exploded)
  np.savez(path, reward=value)
  with pytest.raises((storage.Damage, ValueError)):
    storage.read_chunk(path, zlib.crc32(path.read_bytes()))
  assert not exploded.exists()


@pytest.mark.parametrize('line', [
    'import planted', 'include "planted.gin"',
    'from __gin__ import dynamic_registration\nimport planted',
    'train.agent = @planted.explode', 'train.agent = @planted.explode()',
    'train.seed = __import__("planted")'])
def test_code_named_by_the_configuration(run, line, monkeypatch):
  from dv3 import config
  from dv3 import errors
  logdir, exploded = run
  (logdir / 'planted.py').write_text(
      f'import pathlib\npathlib.Path({str(exploded)!r}).touch()\n'
      'def explode(**kwargs): pass\n')
  (logdir / 'planted.gin').write_text('import planted\n')
  path = logdir / 'config.gin'
  path.write_text(f'{path.read_text()}\n{line}\n')
  monkeypatch.chdir(logdir)
  monkeypatch.syspath_prepend(str(logdir))
  with pytest.raises(errors.UserError) as info:
    config.load(str(logdir))
  assert '\n' not in str(info.value)
  assert not exploded.exists()
