"""The trainer: a whole small run, exact resume, what stops it."""

import functools
import json
import pathlib
import shutil
import time

import numpy as np
import pytest
import small_agent
import tensorflow as tf

from dv3 import agent as agent_lib
from dv3 import errors
from dv3 import types
from dv3.training import checkpoints
from dv3.training import policy
from dv3.training import run
from dv3.training import step
from dv3.training import trainer


def arguments(logdir, env_steps, **kwargs):
  part = small_agent.part
  vector = {'units': 8, 'layers': 1}
  head = {'units': 8, 'layers': 1}
  agent = functools.partial(
      agent_lib.Agent,
      encoder=part('encoder', 'dict', vector=part('encoder', 'mlp', **vector)),
      decoder=part('decoder', 'dict', vector=part('decoder', 'mlp', **vector)),
      core=part(
          'core', 'rssm', deter=16, hidden=8, stoch=4, classes=4, blocks=4),
      reward=part('head', 'twohot', bins=41, **head),
      continuation=part('head', 'binary', **head),
      actor=part('head', 'actor', **head),
      critic=part('head', 'twohot', bins=41, **head), imagination_horizon=3)
  return {
      'logdir': str(logdir), 'agent': agent,
      'env': lambda: types.Recipe(
          'env', 'gymnasium', {'id': 'CartPole-v1', 'time_limit': 12}),
      'collector': part('collector', 'local', num_envs=2),
      'optimizers': ((
          'all', ('*',), part(
              'optimizer', 'laprop', learning_rate=1e-3, warmup_updates=3)),),
      'loggers': (part('logger', 'jsonl'),),
      'env_steps': env_steps, 'replayed_steps_per_env_step': 5.0,
      'jit_compile': False, 'batch_size': 3, 'batch_length': 5,
      'replay_chunk_steps': 16,
      'save_every_seconds': 1e9, 'log_every_seconds': 1e9, 'seed': 4,
      'replay_capacity': 1000, **kwargs}


def last_checkpoint(logdir):
  folder = checkpoints.Checkpoints(logdir / 'checkpoints').latest()
  reader = tf.train.load_checkpoint(str(folder / 'variables'))
  names = [
      x for x in reader.get_variable_to_shape_map() if 'VARIABLE' in x]
  values = {x: reader.get_tensor(x) for x in names}
  return folder, values


def scores(logdir):
  lines = (pathlib.Path(logdir) / 'scores.jsonl').read_text().splitlines()
  return [json.loads(x) for x in lines]


def test_n_steps_stop_resume_m_steps_equals_n_plus_m(tmp_path):
  straight, broken = tmp_path / 'straight', tmp_path / 'broken'
  noise = small_agent.part(
      'exploration', 'noise', final_amount=0.1, decay_env_steps=60)
  result = trainer.train(**arguments(straight, 90, exploration=noise))
  assert result['env_steps'] >= 90
  assert result['updates'] > 15
  trainer.train(**arguments(broken, 47, exploration=noise))
  trainer.train(**arguments(broken, 90, exploration=noise))
  folder_a, a = last_checkpoint(straight)
  folder_b, b = last_checkpoint(broken)
  assert folder_a.name == folder_b.name
  assert a.keys() == b.keys() and len(a) > 100
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], name)
  assert scores(straight) == scores(broken)
  steps = [x['step'] for x in scores(broken)]
  assert steps == sorted(steps) and len(steps) >= 4
  for name in ('latents', 'index'):
    with np.load(folder_a / 'replay' / f'{name}.npz') as x, np.load(
        folder_b / 'replay' / f'{name}.npz') as y:
      assert set(x.files) == set(y.files)
      for key in x.files:
        np.testing.assert_array_equal(x[key], y[key], key)


def test_open_loop_videos_of_a_run_from_pixels(tmp_path):
  part = small_agent.part
  image = {'depth': 2, 'multipliers': (1, 1, 1)}
  arguments_ = arguments(tmp_path, 60)
  agent = functools.partial(
      arguments_.pop('agent'),
      encoder=part('encoder', 'dict', image=part('encoder', 'cnn', **image)),
      decoder=part('decoder', 'dict', image=part(
          'decoder', 'cnn', units=8, blocks=2, **image)))
  trainer.train(**{
      **arguments_, 'agent': agent, 'video_every_seconds': 1e-3,
      'env': lambda: types.Recipe('env', 'gridworld', {'length': 7}),
      'loggers': (part('logger', 'video'),)})
  videos = sorted((tmp_path / 'videos').glob('open_loop.observation-*.gif'))
  assert len(videos) >= 2


def test_resumes_with_other_numbers_of_environments_and_a_larger_budget(
    tmp_path):
  trainer.train(**arguments(tmp_path, 30))
  result = trainer.train(**arguments(
      tmp_path, 60, collector=small_agent.part(
          'collector', 'local', num_envs=3)))
  assert result['env_steps'] >= 60
  steps = [x['step'] for x in scores(tmp_path)]
  assert steps == sorted(steps)


def test_a_finished_run_is_left_as_it_is(tmp_path):
  trainer.train(**arguments(tmp_path, 30))
  before = {
      x: x.stat().st_mtime_ns for x in (tmp_path / 'checkpoints').rglob('*')}
  result = trainer.train(**arguments(tmp_path, 30))
  assert result['env_steps'] >= 30
  assert before == {
      x: x.stat().st_mtime_ns for x in (tmp_path / 'checkpoints').rglob('*')}


def test_dry_run_counts_parameters_and_bytes(tmp_path):
  summary = trainer.train(**{
      **arguments(tmp_path, 90), 'logdir': None, 'dry_run': True})
  assert set(summary['parameters']) == {
      'encoder', 'core', 'decoder', 'reward', 'continue', 'actor', 'critic',
      'total'}
  parts = summary['parameters']
  assert parts['encoder'] == 4 * 8 + 8 + 8  # Kernel, bias, norm.
  assert parts['total'] == sum(v for k, v in parts.items() if k != 'total')
  assert summary['updates_per_env_step'] == pytest.approx(5 / 15)
  assert summary['dtype'] == 'float32' and summary['device'] == 'CPU'


def test_replay_too_small_for_a_batch_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='replay_capacity 10.*raise it'):
    trainer.train(**arguments(tmp_path, 90, replay_capacity=10))


@pytest.mark.parametrize('on_cpu', [True, False])
def test_update_that_is_not_finite_changes_nothing_and_dumps(
    tmp_path, on_cpu, monkeypatch):
  from dv3.training import distribution
  from dv3.training import step
  monkeypatch.setattr(distribution, 'on_cpu', lambda strategy: on_cpu)
  agent = small_agent.make()
  agent.build()
  update = step.Update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part('optimizer', 'laprop',
                                        warmup_updates=0)),), seed=0)
  update(small_agent.batch())
  before = [v.numpy().copy() for v in update._state()]
  batch = small_agent.batch()
  batch['reward'][1, 2] = np.nan
  losses, metrics, _, _ = update(batch)
  assert metrics['finite'] == 0.0
  for old, variable in zip(before, update._state(), strict=True):
    np.testing.assert_array_equal(old, variable.numpy(), variable.name)
  # Keras calls it kernel:0, as so many others.
  assert metrics['bad_gradient'] == 'encoder/vector/mlp/hidden/0/linear/kernel'
  with pytest.raises(errors.UserError, match=(
      r'update 2: reward \[1, 2\] of.*gradient of encoder/vector/mlp')):
    run.BadUpdates(tmp_path, 1).check(2, batch, losses, metrics)
  with np.load(tmp_path / 'not_finite-2.npz') as dumped:
    assert np.isnan(dumped['reward'][1, 2])


def test_a_gradient_that_is_too_large_for_its_norm_is_named():
  from dv3.training import distribution
  from dv3.training import naming
  from dv3.training import step
  agent = small_agent.make()
  agent.build()
  update = step.Update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part('optimizer', 'laprop')),), seed=0)
  def huge(*arguments):
    total, outputs, gradients = update.loss_and_gradients(*arguments)
    gradients[3] = tf.fill(tf.shape(gradients[3]), 1e30)
    return total, outputs, gradients
  update.gradients = huge
  _, metrics, _, _ = update(small_agent.batch())
  assert metrics['finite'] == 0.0
  assert metrics['bad_gradient'] == naming.agent_paths(agent)[
      update.trained[3].ref()]


def test_several_updates_in_a_call_are_those_updates():
  from dv3.training import distribution
  from dv3.training import step
  def make():
    tf.random.set_seed(0)
    agent = small_agent.make()
    agent.build()
    return step.Update(
        agent, distribution.make_strategy(),
        (('all', ('*',), small_agent.part(
            'optimizer', 'laprop', warmup_updates=0)),), seed=0)
  batches = [small_agent.batch(seed=i) for i in range(2)]
  one, several = make(), make()
  for a, b in zip(one._state(), several._state(), strict=True):
    b.assign(a)
  alone = [one(batch) for batch in batches]
  together = several.run(batches)
  assert several.count == one.count == 2
  for a, b in zip(alone, together, strict=True):
    # The second update divides by roots of tiny moments, which magnifies
    # rounding in what the first one left.
    for name, value in a[0].items():
      np.testing.assert_allclose(value, b[0][name], rtol=1e-3, err_msg=name)
    assert set(a[1]) == set(b[1])
  assert alone[0][0] != alone[1][0]


def test_batches_of_one_call_are_those_that_were_drawn(tmp_path, monkeypatch):
  take, drawn, compared = run.Feed.take, [], []
  def remember(self):
    batch = take(self)
    drawn.append({k: np.array(v) for k, v in batch.items()})
    return batch
  update = step.Update.run
  def compare(self, batches):
    for batch, expected in zip(batches, drawn[-len(batches):], strict=True):
      for name, value in batch.items():
        np.testing.assert_array_equal(value, expected[name], name)
      compared.append(len(batches))
    return update(self, batches)
  monkeypatch.setattr(run.Feed, 'take', remember)
  monkeypatch.setattr(step.Update, 'run', compare)
  result = trainer.train(**arguments(tmp_path, 60, steps_per_loop=3))
  assert result['updates'] == len(drawn) == len(compared) >= 8
  assert set(compared) == {3}


def test_replay_holds_a_reset_for_every_step_of_the_budget(
    tmp_path, monkeypatch):
  # Episodes of one step store two: the reset's and the last.
  made = {}
  def replay(specs, **kwargs):
    made.update(kwargs)
    raise errors.UserError('made')
  monkeypatch.setattr(trainer.replay_lib, 'Replay', replay)
  with pytest.raises(errors.UserError, match='made'):
    trainer.train(**arguments(tmp_path, 50_000, replay_capacity=10 ** 6))
  assert 100_000 <= made['capacity'] < 120_000
  assert 50_000 <= made['expected_steps'] < 60_000


def test_one_checkpoint_of_a_run_is_evaluated(tmp_path):
  trainer.train(**arguments(tmp_path, 40, save_every_seconds=1e-3))
  choices = {
      k: v for k, v in arguments(tmp_path, 40).items()
      if k in ('agent', 'env', 'collector')}
  first, *_, last = checkpoints.Checkpoints(tmp_path / 'checkpoints').all()
  ages = [
      trainer.evaluate(logdir=str(folder), episodes=1, **choices)['env_steps']
      for folder in (first, last, tmp_path)]
  assert ages[0] < ages[1] == ages[2]
  (first / 'summary.json').write_text('{}')
  with pytest.raises(errors.UserError, match='is damaged.*choose another'):
    trainer.evaluate(logdir=str(first), episodes=1, **choices)


def test_evaluation_goes_on_where_training_deletes_its_checkpoint(
    tmp_path, monkeypatch):
  trainer.train(**arguments(tmp_path, 40))
  choices = arguments(tmp_path, 40)
  read, points = checkpoints.read_variables, checkpoints.Checkpoints(
      tmp_path / 'checkpoints')
  def meanwhile(folder, **trackables):
    monkeypatch.setattr(checkpoints, 'read_variables', read)
    newer = points.directory / 'step-000000009999'
    shutil.copytree(folder, newer)
    shutil.rmtree(folder)
    return read(folder, **trackables)
  monkeypatch.setattr(checkpoints, 'read_variables', meanwhile)
  result = trainer.evaluate(
      logdir=str(tmp_path), episodes=1,
      **{k: choices[k] for k in ('agent', 'env', 'collector')})
  assert result['env_steps'] >= 40 and len(result['returns']) == 1
  assert [x.name for x in points.all()] == ['step-000000009999']
  # What is damaged and not replaced is told.
  (points.directory / 'step-000000009999' / 'summary.json').unlink()
  with pytest.raises(errors.UserError, match='every checkpoint'):
    trainer.evaluate(
        logdir=str(tmp_path), episodes=1,
        **{k: choices[k] for k in ('agent', 'env', 'collector')})


def test_batches_of_another_size_are_not_resumed():
  feed = run.Feed(None, 12)
  with pytest.raises(errors.UserError, match='of 6 .*have 12.*train.scaling'):
    feed.load({'pending': {}, 'batch_size': 6})


def test_credit_gives_fractions_exactly():
  assert spent(run.Credit(1 / 3), rounds=9) == [0, 0, 1] * 3
  assert spent(run.Credit(2.5), rounds=4) == [2, 3, 2, 3]
  # Two at once: what is left over waits for the next round.
  assert spent(run.Credit(2.5), rounds=4, at_once=2) == [2, 2, 2, 4]


def spent(credit, rounds, at_once=1):
  """Returns the updates of each round, an env step a round."""
  result = []
  for _ in range(rounds):
    credit.earn(1)
    result.append(0)
    while credit.due(at_once):
      credit.spend(at_once)
      result[-1] += at_once
  return result


def test_bfloat16_agent_trains_with_float32_variables():
  from dv3.training import distribution
  from dv3.training import step
  agent = small_agent.make('bfloat16')
  agent.build()
  assert all(
      v.dtype == tf.float32 for p in agent_lib.PARTS
      for v in agent.variables_of(p))
  update = step.Update(
      agent, distribution.make_strategy(),
      (('all', ('*',), small_agent.part(
          'optimizer', 'laprop', learning_rate=1e-3, warmup_updates=0)),),
      seed=0)
  history = [update(small_agent.batch())[0] for _ in range(30)]
  assert all(np.isfinite(list(x.values())).all() for x in history)
  key = 'reconstruction/vector'
  assert history[-1][key] < 0.95 * history[0][key]


def test_optimizer_groups_are_checked():
  from dv3.training import step
  agent = small_agent.make()
  agent.build()
  adam = small_agent.part('optimizer', 'laprop')
  with pytest.raises(errors.UserError, match="'actor' is in no optimizer"):
    step.make_groups(agent, (('m', (
        'encoder', 'core', 'decoder', 'reward', 'continue', 'critic'), adam),))
  with pytest.raises(errors.UserError, match="unknown parts \\['wings'\\]"):
    step.make_groups(agent, (('m', ('wings',), adam),))
  with pytest.raises(errors.UserError, match='2 optimizer groups'):
    step.make_groups(agent, (('a', ('*',), adam), ('b', ('core',), adam)))


def test_intervals_do_not_see_the_wall_clock(tmp_path, monkeypatch):
  clocks = []
  class Clock(run.Clock):
    def __init__(self, seconds, now):
      super().__init__(seconds, now)
      clocks.append(now)
  monkeypatch.setattr(run, 'Clock', Clock)
  trainer.train(**arguments(tmp_path, 20))
  assert clocks and set(clocks) == {time.monotonic}


def test_exploration_decays_by_the_env_steps_of_all_workers():
  class Exploration:
    def __call__(self, actions, env_steps):
      seen.append(env_steps)
      return actions

  seen = []
  agent = small_agent.make()
  agent.build()
  acting = policy.Policy(
      agent, seed=0, random_steps=10, exploration=Exploration(),
      env_steps=lambda: 4 * 5, jit_compile=False)
  obs = {k: v[:, 0] for k, v in small_agent.batch().items()
         if k in small_agent.OBS_SPEC}
  state = acting.initial(4)
  acting(obs, np.ones(4, bool), state, 0)
  assert seen == [20]
  with pytest.raises(errors.UserError, match="lacks 'vector'"):
    acting({'token': obs['token']}, np.ones(4, bool), state, 0)
