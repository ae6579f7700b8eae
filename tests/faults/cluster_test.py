"""Several processes are one run, and a lost worker brings it back."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import lives
import numpy as np
import pytest


def start(logdir, *arguments, workers=2):
  """Starts dv3-cluster; returns the process, its output in a file."""
  log = open(logdir.with_suffix('.log'), 'wb')
  with log:
    return subprocess.Popen(
        [sys.executable, '-m', 'dv3.bin.cluster', f'--workers={workers}',
         *lives.GIN, '--gin_param=train.batch_size = 6',
         f'--logdir={logdir}', *arguments],
        stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
             'PYTHONPATH': os.pathsep.join(x for x in sys.path if x)})


def output(logdir):
  return logdir.with_suffix('.log').read_text()


def finish(process, logdir, code=0):
  """Waits for the end; nothing of it may stay."""
  try:
    found = process.wait(lives.SECONDS)
  finally:
    for pid in children(process.pid):
      os.kill(pid, signal.SIGKILL)
  assert found == code, output(logdir)[-4000:]


def children(pid):
  """Returns the process numbers of what a process started."""
  result = []
  for name in os.listdir('/proc'):
    if name.isdigit():
      try:
        with open(f'/proc/{name}/stat', encoding='ascii') as file:
          if int(file.read().rpartition(')')[2].split()[1]) == pid:
            result.append(int(name))
      except (FileNotFoundError, ProcessLookupError):
        pass
  return result


def scores(logdir):
  lines = (logdir / 'scores.jsonl').read_text().splitlines()
  return [json.loads(x) for x in lines]


def wait_for(condition, process, logdir):
  deadline = time.monotonic() + lives.SECONDS
  while not condition():
    assert process.poll() is None and time.monotonic() < deadline, (
        output(logdir)[-4000:])
    time.sleep(0.05)


def require_one_run(logdir, workers, env_steps):
  """Budget, replay and episodes are those of all workers together."""
  folder = lives.checkpoints(logdir)[-1]
  summary = json.loads((folder / 'summary.json').read_text())
  assert summary['workers'] == workers
  assert env_steps <= summary['env_steps'] < env_steps + 2 * workers
  states = [
      json.loads((part / 'state.json').read_text()) for part in (
          folder, *(folder / f'worker-{i}' for i in range(1, workers)))]
  numbers = [dict(state['__dict__']) for state in states]
  assert len({x['credit'] for x in numbers}) == 1
  own = [dict(x['collector']['__dict__'])['env_steps'] for x in numbers]
  assert sum(own) == summary['env_steps']
  assert all(x > 0 for x in own)
  steps = [x['step'] for x in scores(logdir)]
  assert steps == sorted(steps)
  # As many updates as one process would make of these env steps.
  assert summary['updates'] > 0


def test_two_workers_are_one_run_and_a_killed_one_brings_it_back(tmp_path):
  logdir = tmp_path / 'run'
  process = start(
      logdir, '--gin_param=STEPS = 400',
      '--gin_param=train.save_every_seconds = 1.0')
  wait_for(lambda: len(lives.checkpoints(logdir)) >= 1, process, logdir)
  victim = max(children(process.pid))
  os.kill(victim, signal.SIGKILL)
  finish(process, logdir)
  text = output(logdir)
  assert re.search(r'worker \d ended with code -9; starting it again', text)
  assert 'lost another worker' in text
  assert 'goes on at ' in text
  require_one_run(logdir, 2, 400)
  # Shards differ: each worker has environments of its own.
  shards = []
  for folder in (logdir / 'replay', logdir / 'worker-1' / 'replay'):
    with np.load(sorted(folder.glob('chunk-*.npz'))[0]) as file:
      shards.append(file['observation'])
  assert not np.array_equal(*shards)


@pytest.mark.slow
def test_three_workers_stop_together_and_go_on(tmp_path):
  logdir = tmp_path / 'run'
  arguments = ['--gin_param=STEPS = 100000']
  process = start(logdir, *arguments, workers=3)
  wait_for(
      lambda: (logdir / 'scores.jsonl').exists() and len(scores(logdir)) > 3,
      process, logdir)
  os.kill(max(children(process.pid)), signal.SIGTERM)  # One of them only.
  finish(process, logdir)
  step = json.loads(
      (lives.checkpoints(logdir)[-1] / 'summary.json').read_text())['env_steps']
  require_one_run(logdir, 3, step)
  process = start(
      logdir, f'--gin_param=STEPS = {step + 60}', workers=3)
  finish(process, logdir)
  require_one_run(logdir, 3, step + 60)


def test_another_number_of_workers_is_refused(tmp_path, zygote, reference):
  from dv3 import errors
  from dv3.training import cluster
  from dv3.training import run
  del zygote, tmp_path
  with pytest.raises(errors.UserError, match='is of 1 workers, each'):
    run.restore(
        lives.checkpoints(reference)[-1], workers=cluster.Cluster(None, 0, 2),
        tally=None, update=None, replay=None, collector=None, pipeline=None,
        feed=None, credit=None)


def test_one_process_does_not_become_several(zygote, reference, tmp_path):
  logdir = tmp_path / 'run'
  shutil.copytree(reference, logdir)
  before = (logdir / 'config.gin').read_bytes()
  output = lives.live(
      zygote, logdir, "--gin_param=train.distribution = 'multiworker'", code=2)
  assert "train.distribution was 'single', is 'multiworker'" in output
  assert (logdir / 'config.gin').read_bytes() == before


@pytest.mark.parametrize('text, message', [
    (None, 'TF_CONFIG is not set; start'),
    ('{', 'TF_CONFIG is not as TensorFlow wants it'),
    ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
     'TF_CONFIG is not as'),
    ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}',
     'TF_CONFIG is not as')])
def test_a_wrong_place_is_one_clear_line(monkeypatch, text, message):
  from dv3 import errors
  from dv3.training import cluster
  monkeypatch.delenv('TF_CONFIG', raising=False)
  if text is not None:
    monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(errors.UserError, match=message):
    cluster.place()


def test_place_counts_the_chief_first(monkeypatch):
  from dv3.training import cluster
  monkeypatch.setenv('TF_CONFIG', json.dumps({
      'cluster': {'chief': ['a:1'], 'worker': ['b:1', 'c:1']},
      'task': {'type': 'worker', 'index': 1}}))
  assert cluster.place() == (2, 3)
