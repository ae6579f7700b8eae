"""Files of a run that are not as they were written."""

import shutil

import lives
import pytest


@pytest.fixture(name='logdir')
def make_logdir(zygote, reference, tmp_path):
  """A run with two checkpoints, the older one in the middle."""
  del reference
  logdir = tmp_path / 'run'
  lives.live(zygote, logdir, '--gin_param=STEPS = 60')
  lives.live(zygote, logdir, '--gin_param=STEPS = 100')
  assert len(lives.checkpoints(logdir)) == 2
  return logdir


def flip(path, position=0.5):
  content = bytearray(path.read_bytes())
  content[int(len(content) * position)] ^= 16
  path.write_bytes(content)


def truncate(path):
  path.write_bytes(path.read_bytes()[:-7])


DAMAGES = [
    ('variables.data-00000-of-00001', flip),
    ('variables.index', truncate), ('state.json', truncate),
    ('replay/latents.npz', flip), ('replay/index.npz', truncate),
    ('manifest.json', flip), ('state.npz', lambda path: path.unlink())]


def test_damaged_checkpoint_is_passed_over(
    zygote, reference, logdir, tmp_path):
  older, newer = lives.checkpoints(logdir)
  flip(newer / 'replay' / 'latents.npz')
  output = lives.live(zygote, logdir)
  assert f'{newer} is damaged (replay/latents.npz has another' in output
  # It is out of the way: later ones count as newer, and nothing is lost.
  assert (newer.parent / f'damaged-{newer.name}').is_dir()
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])
  assert lives.scores(logdir) == lives.scores(reference)
  # Nothing is whole: better no run than one that starts over, and loses all.
  other = tmp_path / 'hopeless'
  shutil.copytree(logdir, other)
  for folder in lives.checkpoints(other):
    flip(folder / 'state.json')
  before = sorted(x.name for x in (other / 'replay').iterdir())
  output = lives.live(zygote, other, code=2)
  assert 'every checkpoint' in output and 'damaged' in output
  assert before == sorted(x.name for x in (other / 'replay').iterdir())
  del older


@pytest.mark.parametrize('name, damage', DAMAGES)
def test_every_damage_is_found(reference, tmp_path, name, damage, caplog):
  from dv3.training import checkpoints
  folder = tmp_path / 'checkpoints'
  shutil.copytree(reference / 'checkpoints', folder)
  older = folder / 'step-000000000007'
  newest = lives.checkpoints(tmp_path)[-1]
  shutil.copytree(newest, older)
  damage(newest / name)
  assert checkpoints.Checkpoints(folder).latest() == older
  assert str(newest) in caplog.text
  assert name in caplog.text or name == 'manifest.json'


def test_damaged_chunk_is_set_aside(zygote, reference, tmp_path):
  logdir = tmp_path / 'run'
  shutil.copytree(reference, logdir)
  chunks = sorted((logdir / 'replay').glob('chunk-*.npz'))
  assert len(chunks) >= 6
  flip(chunks[1])
  truncate(chunks[4])
  output = lives.live(zygote, logdir, '--gin_param=STEPS = 140')
  for path in (chunks[1], chunks[4]):
    assert f'{path} is damaged (it has another checksum): its 16' in output
    assert not path.exists() and path.with_suffix('.damaged').exists()
  # It does not come back, and is not complained about again.
  output = lives.live(zygote, logdir, '--gin_param=STEPS = 150')
  assert 'is damaged' not in output


@pytest.mark.slow
def test_all_chunks_lost(zygote, reference, tmp_path):
  logdir = tmp_path / 'run'
  shutil.copytree(reference, logdir)
  for path in (logdir / 'replay').glob('chunk-*.npz'):
    path.write_bytes(b'')
  output = lives.live(zygote, logdir, '--gin_param=STEPS = 160')
  assert output.count('is damaged') >= 6


def test_a_run_whose_checkpoints_are_gone_keeps_what_it_logged(
    zygote, reference, tmp_path):
  logdir = tmp_path / 'run'
  shutil.copytree(reference, logdir)
  shutil.rmtree(logdir / 'checkpoints')
  logged = {
      name: (logdir / name).read_bytes()
      for name in ('scores.jsonl', 'metrics.jsonl')}
  assert all(logged.values())
  output = lives.live(zygote, logdir)
  assert 'has no checkpoint, so the run begins anew' in output
  earlier = logdir / 'earlier-1'
  assert (earlier / 'earlier-scores.jsonl').read_bytes() == logged[
      'scores.jsonl']
  assert (earlier / 'metrics.jsonl').read_bytes() == logged['metrics.jsonl']
  # A report takes the new run for one, and TensorBoard each for its own.
  assert [x.parent for x in logdir.rglob('scores.jsonl')] == [logdir]
  assert len(list(logdir.glob('events.*'))) == len(
      list(earlier.glob('events.*')))
  assert lives.scores(logdir) == lives.scores(reference)
