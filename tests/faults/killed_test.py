"""A run that is killed goes on from its last checkpoint, exactly."""

import json
import random
import time

import lives
import pytest

POINTS = {
    'update': ('dv3.replay.replay.Replay.write_latents', '', 3, 'kill'),
    'collect': ('dv3.replay.replay.Replay.add', '', 5, 'kill'),
    'chunk': ('os.replace', 'writing-chunk', 1, 'kill'),
    'chunk written': ('os.replace', 'writing-chunk', 1, 'kill after'),
    'variables': (
        'dv3.training.checkpoints.write_variables', '', 2, 'kill after'),
    'latents': ('dv3.replay.storage.ArchiveFile.add', 'latent', 3, 'kill'),
    'manifest': ('dv3.training.checkpoints._sync', 'variables', 2, 'kill'),
    'rename': ('os.replace', 'checkpoints/writing', 2, 'kill'),
    'renamed': ('os.replace', 'checkpoints/writing', 2, 'kill after'),
    'old one removed': ('shutil.rmtree', 'checkpoints/step', 1, 'kill'),
    'prune': ('dv3.replay.storage.prune', '', 2, 'kill'),
    'score': ('dv3.loggers.files.AppendFile.write', 'episode/score', 1, 'kill'),
}
# A checkpoint begins whenever none is being written.
OFTEN = '--gin_param=train.save_every_seconds = 0.001'


def newest(logdir):
  """Returns (env steps, updates) of the last whole checkpoint."""
  folders = lives.checkpoints(logdir)
  if not folders:
    return 0, 0
  summary = json.loads((folders[-1] / 'summary.json').read_text())
  return summary['env_steps'], summary['updates']


def check_scores(logdir):
  """Asserts that the scores of a killed run are in order."""
  if (logdir / 'scores.jsonl').exists():
    steps = [x['step'] for x in lives.scores(logdir)]
    assert steps == sorted(steps)


@pytest.mark.parametrize('names', [
    ['update', 'latents', 'chunk', 'renamed'],
    pytest.param(list(POINTS), marks=pytest.mark.slow)], ids=len)
def test_killed_at_chosen_instants(zygote, reference, tmp_path, names):
  logdir = tmp_path / 'run'
  for name in names:
    before = newest(logdir)
    lives.live(zygote, logdir, OFTEN, faults=[POINTS[name]], code=-9)
    assert newest(logdir) >= before, name
    check_scores(logdir)
  steps, updates = newest(logdir)
  assert steps > 0
  # A run that began anew would end in the same bits.
  assert f'goes on at {steps} env steps, {updates} updates' in lives.live(
      zygote, logdir)
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])
  assert lives.scores(logdir) == lives.scores(reference)
  assert not list((logdir / 'checkpoints').glob('writing-*'))


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(2))
def test_killed_at_random_instants(zygote, tmp_path, seed, record_property):
  # Twenty kills in all, of runs that save as often as they can.
  rng = random.Random(seed)
  steps = '--gin_param=STEPS = 600'
  straight = tmp_path / 'straight'
  lives.live(zygote, straight, steps)

  def finish(logdir):
    lives.live(zygote, logdir, steps)
    lives.require_equal(
        lives.checkpoints(logdir)[-1], lives.checkpoints(straight)[-1])
    assert lives.scores(logdir) == lives.scores(straight)

  kills, logdir = 0, tmp_path / 'run'
  while kills < 10:
    often = f'--gin_param=train.save_every_seconds = {rng.uniform(0.01, 0.5)}'
    before = newest(logdir)
    life = lives.Life(zygote, logdir, steps, often)
    deadline = time.monotonic() + lives.SECONDS
    # Most of a life is start-up, where there is nothing to lose.
    while newest(logdir) == before and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(rng.expovariate(2.0))
    life.kill()
    code = life.wait()
    assert code in (0, -9), life.output
    assert newest(logdir) > before, life.output
    check_scores(logdir)
    if code == 0:  # It was faster; the next kills are another run's.
      finish(logdir)
      logdir = tmp_path / f'run-after-{kills}'
    else:
      kills += 1
  finish(logdir)
