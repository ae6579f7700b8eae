"""NaN and infinities in what an update takes or computes."""

import json

import lives
import numpy as np
import pytest

PLUGIN = '''
import itertools, sys
import numpy as np

BATCHES = {batches!r}  # Number of the batch: (entry, value).
GRADIENT = {gradient!r}  # Number of the update.

def plant():
  import tensorflow as tf
  from dv3.training import run
  from dv3.training import step

  take_, count = run.Feed.take, itertools.count(1)
  def take(self):
    batch = take_(self)
    number = next(count)
    if number in BATCHES or 0 in BATCHES:
      name, value = BATCHES.get(number) or BATCHES[0]
      batch[name] = batch[name].copy()
      batch[name][1, 2] = value
    return batch
  run.Feed.take = take

  gradients_ = step.Update.loss_and_gradients
  def gradients(self, batch, update, replica):
    total, outputs, found = gradients_(self, batch, update, replica)
    found = list(found)
    found[3] += tf.where(update + 1 == GRADIENT, np.float32(np.nan), 0.0)
    return total, outputs, found
  step.Update.loss_and_gradients = gradients

if 'tensorflow' in sys.modules:  # Not in the environments' processes.
  plant()
'''


def plugin(tmp_path, batches=(), gradient=-1):
  path = tmp_path / 'plant.py'
  text = PLUGIN.format(batches=dict(batches), gradient=gradient)
  path.write_text(text.replace(': nan', ': np.nan').replace(
      ', nan)', ', np.nan)').replace(', inf)', ', np.inf)'))
  return f'--plugin={path}'


def test_bad_updates_are_skipped_named_and_counted(zygote, tmp_path):
  logdir = tmp_path / 'run'
  output = lives.live(
      zygote, logdir, plugin(tmp_path, {
          3: ('reward', np.nan), 5: ('observation', np.inf),
          9: ('reward', np.inf)}, gradient=7))
  for number, words in (
      (3, 'reward [1, 2] of the batch, the loss'),
      (5, 'observation [1, 2, 0] of the batch, the loss'),
      (7, 'the gradient of '), (9, 'reward [1, 2] of the batch, the loss')):
    assert f'update {number}: {words}' in output
    assert f'not_finite-{number}.npz. The update is skipped' in output
    with np.load(logdir / f'not_finite-{number}.npz') as batch:
      assert np.isfinite(batch['reward']).all() == (number in (5, 7))
  last = json.loads((logdir / 'metrics.jsonl').read_text().splitlines()[-1])
  assert last['train/skipped_updates_sum'] == 4
  assert np.isfinite(last['loss/reward'])
  found = lives.contents(lives.checkpoints(logdir)[-1])
  for name, value in found.items():
    if value.dtype.kind == 'f':
      assert np.isfinite(value).all(), name


def test_too_many_in_a_row_end_the_run_at_its_last_checkpoint(
    zygote, reference, tmp_path):
  logdir = tmp_path / 'run'
  lives.live(zygote, logdir, '--gin_param=STEPS = 70')
  output = lives.live(
      zygote, logdir, plugin(tmp_path, {0: ('reward', np.nan)}),
      '--gin_param=train.max_bad_updates = 2', code=2)
  line = output.strip().splitlines()[-1]
  assert line.startswith('dv3-train: update')
  assert 'reward [1, 2] of the batch' in line and '2 in a row' in line
  assert len(list(logdir.glob('not_finite-*.npz'))) == 2
  lives.live(zygote, logdir, plugin(tmp_path))  # Nothing is planted any more.
  lives.require_equal(
      lives.checkpoints(logdir)[-1], lives.checkpoints(reference)[-1])


@pytest.mark.parametrize('finite, ends', [
    ([0, 0, 0], True), ([0, 0, 1, 0, 0, 1, 0, 0], False), ([1, 1], False)])
def test_only_a_row_ends_the_run(tmp_path, finite, ends):
  from dv3 import errors
  from dv3.training import run
  bad_updates = run.BadUpdates(tmp_path, 3)
  def play():
    for number, flag in enumerate(finite, 1):
      skipped = bad_updates.check(
          number, {'reward': np.zeros((2, 3))}, {},
          {'finite': float(flag), 'bad_gradient': 'actor/kernel:0'})
      assert skipped != flag
  if ends:
    with pytest.raises(errors.UserError, match='update 3: the gradient of a'):
      play()
  else:
    play()


def test_few_batches_stay_and_a_full_disk_does_not_end_the_run(
    tmp_path, monkeypatch):
  from dv3.training import run
  bad_updates = run.BadUpdates(tmp_path, 100)
  check = lambda number: bad_updates.check(
      number, {}, {}, {'finite': 0.0, 'bad_gradient': None})
  for number in range(9):
    check(number)
  assert len(list(tmp_path.glob('*.npz'))) == 5
  def half(path, **batch):
    path.write_text('half')
    raise OSError(27, 'File too large')
  with monkeypatch.context() as patch:
    patch.setattr(np, 'savez', half)
    assert check(20)
  assert not (tmp_path / 'not_finite-20.npz').exists()
  bad_updates._logdir = tmp_path / 'missing'
  assert check(9)
