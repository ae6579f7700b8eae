"""dv3-bench at tiny sizes: it runs and prints the names that others read."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types as python_types

import pytest
from absl import flags

from dv3 import config
from dv3 import errors
from dv3 import registry
from dv3 import types
from dv3.benchmarking import checkpoint
from dv3.benchmarking import flops
from dv3.benchmarking import loop
from dv3.benchmarking import machine
from dv3.benchmarking import profile
from dv3.benchmarking import sweep
from dv3.benchmarking import update
from dv3.benchmarking import workload
from dv3.bin import bench
from dv3.collectors import random_policy
from dv3.collectors import worker
from dv3.replay import replay as replay_lib

TINY = [
    '--gin_file=dreamerv3.gin', '--gin_file=size/1m.gin',
    '--gin_file=task/cartpole.gin', '--gin_param=DETER = 16',
    '--gin_param=HIDDEN = 8', '--gin_param=UNITS = 8',
    '--gin_param=train.batch_size = 2', '--gin_param=train.batch_length = 3',
    '--gin_param=train.jit_compile = False',
    # The world model alone: what behavior adds takes seconds to trace.
    '--gin_param=Agent.losses = (@loss.kl, @loss.reward)',
    '--gin_param=balancer.fixed.scales = {}',
    '--repeats=2', '--json']
SHORT = {
    'update': ['--warmup=1', '--gemm_size=64'],
    **dict.fromkeys(
        ('act', 'replay', 'loop', 'environments'), ['--seconds=0.05'])}
SPACES = ['--observations=4', '--actions=2']


def call(command, *arguments):
  """Runs a command with these flags and no others."""
  flags.FLAGS.unparse_flags()
  saved = flags.FLAGS.flag_values_dict()
  try:
    flags.FLAGS(['dv3-bench', *arguments])
    bench.main(['dv3-bench', command])
  finally:
    for name, value in saved.items():
      flags.FLAGS[name].value = value
      flags.FLAGS[name].present = 0


@pytest.fixture(name='run')
def make_run(capsys):
  def run(command, *arguments):
    call(command, *TINY, *SHORT.get(command, ()), *arguments)
    out = capsys.readouterr().out.strip().splitlines()
    assert len(out) == 1
    return json.loads(out[0])
  return run


def test_update(run):
  result = run('update', *SPACES, '--dtype=bfloat16', '--executed')
  assert result['dtype'] == 'bfloat16'
  for name in (
      'seconds', 'gflop', 'ceiling_gflops', 'share_of_ceiling',
      'first_update_seconds', 'peak_rss_bytes', 'executed_gflop'):
    assert result[name] > 0, name
  assert result['share_of_ceiling'] == pytest.approx(
      result['gflop'] / result['seconds'] / result['ceiling_gflops'])
  assert result['traces'] == 1
  # The model is computed as it is counted, but that filtering's forward pass,
  # a third of what is counted for it, runs twice more: once for all steps, and
  # on the way back.
  expected = result['gflop'] + 2 / 3 * result['gflop_by_part']['observe']
  assert result['executed_gflop'] == pytest.approx(expected, rel=0.2)


def test_an_update_is_measured_whose_graph_cannot_be_counted(run, monkeypatch):
  def fail(function):
    raise ValueError('while has no static number of rounds')
  monkeypatch.setattr(flops, 'executed_flops', fail)
  result = run('update', *SPACES, '--executed')
  assert result['seconds'] > 0
  assert result['executed_gflop'] is None
  assert result['executed_not_counted'].startswith('while has no static')


def test_the_ceiling_is_that_of_all_devices(monkeypatch):
  times = iter([0.0, 2.0])
  monkeypatch.setattr(machine.time, 'perf_counter', lambda: next(times))
  gemm = machine.Gemm('float32', 16, devices=3)
  assert gemm.run() == pytest.approx(3 * 2 * 16 ** 3 / 1e9 / 2)


@pytest.mark.parametrize('gpu, given, expected', [
    (True, None, (8192, 4)), (True, 64, (64, 4)), (False, None, (2048, 1))])
def test_the_ceiling_by_device(monkeypatch, gpu, given, expected):
  monkeypatch.setattr(update.xla, 'has_gpu', lambda: gpu)
  monkeypatch.setattr(
      machine, 'Gemm', lambda dtype, size, devices=1: (size, devices))
  strategy = python_types.SimpleNamespace(num_replicas_in_sync=4)
  assert update._gemm('float32', strategy, given) == expected


def test_profiles_of_several_replicas_are_refused_at_once(run, monkeypatch):
  monkeypatch.setattr(
      profile.distribution, 'make_strategy',
      lambda name, replicas: python_types.SimpleNamespace(
          num_replicas_in_sync=replicas))
  monkeypatch.setattr(update, 'measure', lambda *_, **__: pytest.fail('late'))
  with pytest.raises(errors.UserError, match="one replica.*'mirrored' has 2"):
    run('update', *SPACES, '--profile',
        "--gin_param=train.distribution = 'mirrored'",
        '--gin_param=train.replicas = 2')


def test_act(run):
  result = run('act', *SPACES)
  assert result['num_envs'] == 1
  rates = result['env_steps_per_second_by_num_envs']
  assert set(rates) == {'1', '16'}
  assert result['env_steps_per_second'] == rates['1'] > 0


def test_act_takes_the_chosen_collectors_environments(run):
  result = run('act', *SPACES, '--gin_param=NUM_ENVS = 2')
  assert result['num_envs'] == 2
  assert set(result['env_steps_per_second_by_num_envs']) == {'1', '2', '16'}


@pytest.mark.parametrize('arguments, expected', [
    (['NUM_ENVS = 3'], ('collector.local', 3)),
    (['CHOSEN = @collector.local', 'train.collector = %CHOSEN',
      'NUM_ENVS = 2'], ('collector.local', 2)),
    (['train.collector = @collector.ray', 'collector.ray.num_envs = 5'],
     ('collector.ray', 5)),
    (['train.collector = @collector.ray'], ('collector.ray', 1))])
def test_the_chosen_collectors_environments(arguments, expected):
  parsed = config.parse(
      ['dreamerv3.gin', 'size/1m.gin', 'task/cartpole.gin'], arguments)
  assert workload.collector(parsed) == expected


def test_replay(run):
  result = run('replay', '--capacity=60', '--actions=2')
  for name in (
      'adds_per_second', 'sequences_per_second', 'memcpy_bytes_per_second',
      'share_of_memcpy'):
    assert result[name] > 0, name
  assert result['observations'] == {'observation': ['uint8', 64, 64, 3]}
  assert result['sequence_length'] == 4
  # The image, the shifted action, reward and three flags; one start latent.
  steps = 3 * (64 * 64 * 3 + 4 + 4 + 3)
  assert result['bytes_per_sequence'] == steps + 16 * 4 + 32


NO_LATENTS = '--gin_param=train.replay_context = 0'


def test_replay_without_latents(run):
  result = run('replay', '--capacity=60', '--actions=2', NO_LATENTS)
  assert result['latent_writes_per_second'] is None
  assert result['sequences_per_second'] > 0
  assert result['bytes_per_sequence'] == 3 * (64 * 64 * 3 + 4 + 4 + 3)


def test_checkpoint_without_latents(run, monkeypatch):
  monkeypatch.setattr(
      replay_lib.Replay, 'write_latents', lambda *_: pytest.fail('no latents'))
  result = run('checkpoint', *SPACES, '--capacity=64', NO_LATENTS)
  assert 0 < result['seconds']


@pytest.mark.parametrize('command', ['replay', 'checkpoint'])
def test_replay_draws_with_the_configured_sampler(run, monkeypatch, command):
  seen = []
  class Watched(replay_lib.Replay):
    def __init__(self, *args, **kwargs):
      super().__init__(*args, **kwargs)
      seen.append(self.sampler)
  monkeypatch.setattr(replay_lib, 'Replay', Watched)
  run(command, *SPACES, '--capacity=64', '--repeats=1',
      '--gin_param=train.sampler = @sampler.recency')
  assert {type(x) for x in seen} == {registry.get('sampler', 'recency')}


def test_a_save_that_fails_leaves_no_folder(run, monkeypatch, tmp_path):
  begun = threading.Event()
  def save(folder, **kwargs):
    def rest():
      begun.set()
      for number in range(5):
        time.sleep(0.05)
        (folder / str(number)).mkdir(parents=True)
    return rest
  def fail(*args):
    begun.wait()
    raise errors.UserError('no room')
  monkeypatch.setattr(checkpoint.run, 'save', save)
  monkeypatch.setattr(replay_lib.Replay, 'write_latents', fail)
  with pytest.raises(errors.UserError, match='no room'):
    run('checkpoint', *SPACES, '--capacity=64', f'--logdir={tmp_path}')
  assert not list(tmp_path.iterdir())
  time.sleep(0.3)  # What a thread left behind would write now.
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('command, parameter, message', [
    ('update', 'train.batch_length = 0', 'train.batch_length is 0; it is at'),
    ('replay', 'train.batch_size = 0', 'train.batch_size is 0; it is at least'),
    ('act', "train.jit_compile = 'foo'", "train.jit_compile is 'foo'"),
    ('act', 'train.seed = -1', r'train.seed is -1; it is in \[0,')])
def test_what_training_refuses(run, command, parameter, message):
  with pytest.raises(errors.UserError, match=message):
    run(command, *SPACES, f'--gin_param={parameter}')


def atari(**kwargs):
  return types.Recipe('env', 'atari', kwargs)


@pytest.mark.parametrize('missing', ['ale_py', 'cv2'])
def test_atari_is_known_where_a_package_is_missing(monkeypatch, missing):
  monkeypatch.setattr(
      workload.importlib.util, 'find_spec', lambda name: name != missing)
  observations, actions = workload._spaces(atari(game='breakout', grey=True))
  assert observations == {'observation': types.Spec((64, 64, 1), 'uint8')}
  assert actions == {'action': types.Spec((), 'int32', (4,))}


def test_a_wrong_atari_configuration_is_told(monkeypatch):
  monkeypatch.setattr(workload.importlib.util, 'find_spec', lambda name: True)
  def probe(recipe):
    raise errors.UserError("there is no Atari game 'pongg'")
  monkeypatch.setattr(workload.worker, 'probe', probe)
  with pytest.raises(
      errors.UserError, match="no Atari game 'pongg'; or give --observations"):
    workload._spaces(atari(game='pongg'))


def test_checkpoints_in_a_file_are_refused(run, tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(b'')
  with pytest.raises(errors.UserError, match=f'cannot write {path}'):
    run('checkpoint', *SPACES, f'--logdir={path}')


def test_loop(run):
  result = run('loop', '--gin_param=train.replayed_steps_per_env_step = 6')
  assert result['env_steps_per_second'] > 0
  assert result['updates_per_second'] > 0
  shares = result['time_shares']
  assert {'collect', 'sample', 'update', 'write_back', 'other'} <= set(shares)
  assert 0.9 < sum(shares.values()) < 1.1
  assert result['windows'] == 2


def test_a_loop_without_a_whole_interval_is_told(run):
  with pytest.raises(errors.UserError, match='--seconds=50 .*raise STEPS, or'):
    run('loop', '--gin_param=STEPS = 12', '--seconds=50',
        '--gin_param=train.replayed_steps_per_env_step = 0')


@pytest.mark.parametrize('end', [
    lambda: {'env_steps': 5, 'updates': 2, 'stopped': 'SIGTERM'},
    lambda: sys.exit(0)], ids=['running', 'starting'])
def test_a_loop_that_a_signal_ends_is_interrupted(monkeypatch, end):
  seen = []
  def train(*, loggers, **kwargs):
    logger = loggers[0](logdir='')
    for step in range(2):  # The second one is whole, or the end's own.
      logger.write(step, {'count/updates': 1.0})
    seen.append(logger)
    return end()
  monkeypatch.setattr(loop.gin, 'get_configurable', lambda name: train)
  with pytest.raises(KeyboardInterrupt):
    loop.measure(windows=1, seconds=1.0)
  assert seen


def test_checkpoint(run):
  result = run('checkpoint', *SPACES, '--capacity=64')
  assert 0 < result['seconds']
  # Saves begin at most twice as often as save_every_seconds says.
  every = result['save_every_seconds']
  assert result['seconds'] / every <= result['share_of_time']
  assert result['share_of_time'] <= 2 * result['seconds'] / every
  assert result['checkpoint_bytes'] > 64 * (16 * 4 + 32)  # The latents.


def test_checkpoint_has_the_configured_environments(run, monkeypatch):
  seen = []
  fill = checkpoint._fill
  def watch(*arguments):
    replay = fill(*arguments)
    seen.append(replay.workers)
    return replay
  monkeypatch.setattr(checkpoint, '_fill', watch)
  run('checkpoint', *SPACES, '--capacity=64', '--gin_param=NUM_ENVS = 4')
  assert seen == [4]


def test_environments_takes_the_configured_number(run):
  result = run('environments', '--gin_param=NUM_ENVS = 2', '--repeats=1')
  assert result['num_envs'] == 2
  assert set(result['env_steps_per_second_by_num_envs']) == {'1', '2'}


def test_environments_play_by_the_seed(run, monkeypatch):
  seeds = []
  for kind in (worker.Make, random_policy.RandomPolicy):
    def watch(self, *args, init=kind.__init__, **kwargs):
      init(self, *args, **kwargs)
      seeds.append(self._seed)
    monkeypatch.setattr(kind, '__init__', watch)
  run('environments', '--seed=7', '--repeats=1')
  assert len(seeds) > 1 and set(seeds) == {7}


def test_environments(run):
  result = run('environments', '--num_envs=2')
  assert set(result['env_steps_per_second_by_num_envs']) == {'1', '2'}
  assert result['environment'] == 'env.gymnasium'
  assert result['collector'] == 'collector.local'
  assert result['env_steps_per_second'] > 0


@pytest.mark.parametrize('command, arguments, message', [
    ('updat', [], "no measurement 'updat'; did you mean update"),
    ('environments', ['--num_envs=two'], '--num_envs=two is no list'),
    ('act', ['--sweep=1m'], '--sweep belongs to dv3-bench update'),
    ('update', ['--sweep=2m'], '--sweep=2m is neither a batch shape'),
    ('act', ['--observations=4x'], "'4x' is neither a length"),
    ('act', ['--observations=4', '--actions=no'], '--actions=no is neither'),
    ('loop', ['--observations=4'], '--observations belongs.*out of loop'),
    ('environments', ['--actions=4'], '--actions belongs.*of environments'),
    ('act', ['--executed'], '--executed belongs to dv3-bench update'),
    ('update', ['--num_envs=2'], '--num_envs belongs.*environments'),
    ('update', ['--output=x.png'], '--output belongs to --sweep'),
    ('update', ['--sweep=3x5', '--output=x.pdf'], 'x.pdf: .*drawn as PNG'),
    ('update', ['--seconds=3'], '--seconds belongs.*out of update'),
    ('checkpoint', ['--seconds=3'], '--seconds belongs.*of checkpoint'),
    ('act', ['--warmup=3'], '--warmup belongs to dv3-bench update'),
    ('replay', ['--gemm_size=64'], '--gemm_size belongs to dv3-bench update'),
    ('loop', ['--logdir=runs/x'], 'give --logdir.*or --gin_file'),
    ('update', ['--sweep=3x5', '--output=/proc/x.png'], 'write /proc/x.png'),
    ('update', ['--sweep=3x5', '--output=/tmp'], 'write /tmp'),
])
def test_mistakes(run, command, arguments, message):
  with pytest.raises(errors.UserError, match=message):
    run(command, *arguments)


def test_a_sweep_without_matplotlib_ends_before_it_measures(run, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(errors.UserError, match='needs matplotlib.*report'):
    run('update', '--sweep=3x5')


@pytest.fixture(name='measured')
def make_measured(monkeypatch):
  """Sweeps measure nothing; what fails is the point 9x9."""
  calls = []
  def execute(command, **kwargs):
    calls.append(command)
    size = int(re.findall(r'batch_size = (\d+)', ' '.join(command))[-1])
    row = {
        'seconds': size, 'gflop': size, 'share_of_ceiling': 1.0,
        'ceiling_gflops': 1.0, 'dtype': 'float32', 'device': 'cpu'}
    return subprocess.CompletedProcess(
        command, int(size == 9), json.dumps(row), 'dv3-bench: no memory')
  monkeypatch.setattr(sweep.subprocess, 'run', execute)
  return calls


def test_points_before_one_that_fails_are_printed(measured, capsys, tmp_path):
  picture = tmp_path / 'new' / 'x.png'
  with pytest.raises(errors.UserError, match='--sweep=9x9: .*no memory'):
    call('update', *TINY, '--sweep=2x3,4x3,9x9,5x5', f'--output={picture}')
  result = json.loads(capsys.readouterr().out)
  assert [x['label'] for x in result['points']] == ['2x3', '4x3']
  assert result['exponent'] == pytest.approx(1)
  assert result['picture'] is None and not picture.exists()


def test_sigterm_ends_a_sweep_and_its_process(
    capsys, tmp_path, monkeypatch):
  # In place of the points: the first is measured, the second never ends.
  script = tmp_path / 'python'
  number = tmp_path / 'number'
  row = {
      'seconds': 1, 'gflop': 1, 'share_of_ceiling': 1.0, 'ceiling_gflops': 1.0,
      'dtype': 'float32', 'device': 'cpu'}
  script.write_text(
      f"#!/bin/sh\ncase \"$*\" in *'batch_size = 4'*) "
      f'echo $$ > {number}.tmp; mv {number}.tmp {number}; exec sleep 60;;\n'
      f"*) echo '{json.dumps(row)}';; esac\n")
  script.chmod(0o700)
  monkeypatch.setattr(sweep.sys, 'executable', str(script))
  def send():
    deadline = time.monotonic() + 20
    while not number.exists() and time.monotonic() < deadline:
      time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
  thread = threading.Thread(target=send)
  # So that without a handler the test fails, and not its whole process.
  old = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    thread.start()
    with pytest.raises(SystemExit, match='143'):
      call('update', *TINY, '--sweep=2x3,4x3', f'--output={tmp_path}/x.png')
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
  finally:
    thread.join()
    signal.signal(signal.SIGTERM, old)
  result = json.loads(capsys.readouterr().out)
  assert [x['label'] for x in result['points']] == ['2x3']
  with pytest.raises(ProcessLookupError):
    os.kill(int(number.read_text()), 0)


def test_points_are_printed_before_the_picture_fails(
    measured, capsys, tmp_path, monkeypatch):
  def draw(result):
    raise errors.UserError('no ink')
  monkeypatch.setattr(sweep, 'draw', draw)
  with pytest.raises(errors.UserError, match='no ink'):
    call('update', *TINY, '--sweep=2x3', f'--output={tmp_path / "x.png"}')
  assert json.loads(capsys.readouterr().out)['points'][0]['label'] == '2x3'


def test_a_sweep_hands_on_every_flag(run, measured, tmp_path):
  picture = tmp_path / 'x.png'
  run('update', *SPACES, '--sweep=2x3', f'--output={picture}', '--profile',
      '--executed', '--seed=0')
  for flag in (*SPACES, '--profile', '--executed', '--seed=0'):
    assert flag in measured[0], flag
  assert picture.read_bytes().startswith(b'\x89PNG')


def test_a_run_is_swept_by_batch_shapes_alone(measured, capsys, tmp_path):
  common = f'--logdir={tmp_path / "run"}', f'--output={tmp_path / "x.png"}'
  call('update', *common, '--sweep=2x3', '--json')
  assert common[0] in measured[0]
  assert json.loads(capsys.readouterr().out)['points']
  with pytest.raises(errors.UserError, match='--sweep=1m needs the --gin_file'):
    call('update', *common, '--sweep=2x3,1m')


def test_single_bindings_are_no_configuration():
  with pytest.raises(errors.UserError, match='train.env.*quickstart.gin'):
    call('update', '--gin_param=train.batch_size = 2')


def program(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'dv3.bin.bench', *arguments], text=True,
      capture_output=True, check=False)


def test_a_mistake_on_the_command_line_is_one_line():
  done = program('updates')
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('dv3-bench: there is no measurement')


@pytest.mark.slow
def test_sweep_draws_and_profile_names_the_parts(tmp_path):
  picture = tmp_path / 'sweep.png'
  done = program(
      'update', *TINY, *SHORT['update'], *SPACES, '--sweep=2x3,4x3',
      f'--output={picture}')
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  assert [x['label'] for x in result['points']] == ['2x3', '4x3']
  assert result['points'][1]['gflop'] == 2 * result['points'][0]['gflop']
  assert picture.read_bytes().startswith(b'\x89PNG')
  done = program('update', *TINY, *SHORT['update'], *SPACES, '--profile')
  assert done.returncode == 0, done.stderr
  profile = json.loads(done.stdout.splitlines()[-1])['profile_seconds']
  assert set(profile) == {
      'encoder', 'observe_scan', 'imagination', 'heads', 'decoder', 'losses',
      'backward', 'optimizer', 'host', 'update'}
