"""What is kept of compiled programs, and that no damage reaches a run."""

import json
import logging
import os
import pathlib
import subprocess
import sys

import pytest

from dv3.bin import compile_cache

TINY = pathlib.Path(__file__).parents[1] / 'faults' / 'tiny.gin'


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  monkeypatch.setattr(compile_cache, '_ACCELERATORS', ())
  for name in ('TF_XLA_FLAGS', 'DV3_COMPILE_CACHE', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)


def compiled(cache, name, content):
  """Stands for TensorFlow, which moves a file into the view."""
  (cache.view / f'{name}.pb').write_bytes(content)


def seen(cache):
  return {
      path.name: path.read_bytes() for path in cache.view.iterdir()
      if path.name != 'lock'}


def test_the_next_process_sees_what_was_compiled(tmp_path):
  first = compile_cache.Cache(tmp_path, spare_bytes=0)
  second = compile_cache.Cache(tmp_path, spare_bytes=0)  # At the same time.
  compiled(first, 'a', b'of a')
  compiled(second, 'a', b'of a')
  compiled(second, 'b', b'of b')
  (second.view / 'c.pb.tmp').write_bytes(b'not whole')
  assert first.keep() == 1 and second.keep() == 1 and second.keep() == 0
  assert seen(first) == {'a.pb': b'of a'}  # Nothing changes below a process.
  third = compile_cache.Cache(tmp_path, spare_bytes=0)
  assert seen(third) == {'a.pb': b'of a', 'b.pb': b'of b'}
  for cache in (first, second, third):
    cache.close()
    assert not cache.view.exists()
  assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize('damage', [
    lambda content: content[:3], lambda content: b'',
    lambda content: bytes([content[0] ^ 1]) + content[1:],
], ids=['cut', 'empty', 'a bit'])
def test_what_is_damaged_is_not_seen_and_made_anew(tmp_path, damage):
  first = compile_cache.Cache(tmp_path, spare_bytes=0)
  compiled(first, 'a', b'of a')
  compiled(first, 'b', b'of b')
  first.close()
  kept, = tmp_path.glob('a.*')
  kept.write_bytes(damage(kept.read_bytes()))
  second = compile_cache.Cache(tmp_path, spare_bytes=0)
  assert seen(second) == {'b.pb': b'of b'}
  compiled(second, 'a', b'of a')
  second.close()
  assert seen(compile_cache.Cache(tmp_path, spare_bytes=0)) == {
      'a.pb': b'of a', 'b.pb': b'of b'}


def test_the_oldest_go_first(tmp_path):
  first = compile_cache.Cache(tmp_path, spare_bytes=0)
  for i, name in enumerate('abc'):
    compiled(first, name, bytes(100))
    first.keep()
    kept, = tmp_path.glob(f'{name}.*')
    os.utime(kept, (i, i))
  second = compile_cache.Cache(tmp_path, spare_bytes=0, largest_bytes=250)
  assert set(seen(second)) == {'b.pb', 'c.pb'}
  assert not list(tmp_path.glob('a.*'))


def test_the_same_in_two_files_is_seen_once(tmp_path):
  caches = [compile_cache.Cache(tmp_path, spare_bytes=0) for _ in range(2)]
  for i, cache in enumerate(caches):
    compiled(cache, 'a', bytes([i]) * 100)
    (cache.view / 'a.pb').rename(cache.view / 'b.pb')
    cache.keep()  # As if neither had seen the other's.
    kept, = tmp_path.glob('b.*')
    os.utime(kept, (i, i))
    kept.rename(tmp_path / kept.name.replace('b.pb', 'a.pb'))
  assert len(list(tmp_path.glob('a.*'))) == 2
  third = compile_cache.Cache(tmp_path, spare_bytes=0)
  assert seen(third) == {'a.pb': bytes([1]) * 100}  # The newer.
  kept, = tmp_path.glob('a.*')
  assert kept.read_bytes() == bytes([1]) * 100


def test_views_of_killed_processes_are_removed(tmp_path):
  alive = compile_cache.Cache(tmp_path, spare_bytes=0)
  program = (
      'import os, pathlib; from dv3.bin import compile_cache;'
      f'cache = compile_cache.Cache(pathlib.Path({str(tmp_path)!r}),'
      'spare_bytes=0); (cache.view / "a.pb").write_bytes(b"cut");'
      'os.kill(os.getpid(), 9)')
  subprocess.run([sys.executable, '-c', program], check=False)
  dead, = set(tmp_path.glob('view-*')) - {alive.view}
  assert (dead / 'a.pb').exists()
  half = tmp_path / 'view-half'
  half.mkdir()
  compile_cache.Cache(tmp_path, spare_bytes=0).close()
  assert not dead.exists() and not half.exists() and alive.view.exists()
  assert not list(tmp_path.glob('a.*'))


def test_a_folder_that_vanishes_or_a_full_disk_stops_nothing(
    tmp_path, monkeypatch):
  cache = compile_cache.Cache(tmp_path / 'store', spare_bytes=0)
  compiled(cache, 'a', b'of a')
  def full(*args):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(compile_cache.shutil, 'copyfile', full)
  assert cache.keep() == 0
  monkeypatch.undo()
  compile_cache.shutil.rmtree(tmp_path / 'store')
  assert cache.keep() == 0
  cache.close()


@pytest.mark.parametrize('settings', [
    {'DV3_COMPILE_CACHE': ''},
    {'TF_XLA_FLAGS': '--tf_xla_persistent_cache_directory=/mine'}])
def test_it_can_be_switched_off(settings, monkeypatch):
  for name, value in settings.items():
    monkeypatch.setenv(name, value)
  assert compile_cache.enable() is None
  assert os.environ.get('TF_XLA_FLAGS') == settings.get('TF_XLA_FLAGS')


def test_nothing_is_kept_beside_an_accelerator(tmp_path, monkeypatch):
  (tmp_path / 'nvidia0').touch()
  monkeypatch.setattr(
      compile_cache, '_ACCELERATORS', (f'{tmp_path}/nvidia[0-9]*',))
  monkeypatch.setenv('DV3_COMPILE_CACHE', str(tmp_path / 'kept'))
  assert compile_cache.enable() is None
  assert not (tmp_path / 'kept').exists()


def test_measurements_keep_nothing_unless_a_folder_is_named(
    tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert compile_cache.enable(default=False) is None
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', ['a file', 'little left'])
def test_a_folder_that_cannot_be_used_is_a_warning(
    kind, tmp_path, monkeypatch, caplog):
  folder = tmp_path / 'kept'
  if kind == 'a file':
    folder.write_text('')
  else:
    monkeypatch.setattr(
        compile_cache.shutil, 'disk_usage',
        lambda path: compile_cache.shutil._ntuple_diskusage(2e9, 1e9, 5e8))
  monkeypatch.setenv('DV3_COMPILE_CACHE', str(folder))
  with caplog.at_level(logging.WARNING):
    assert compile_cache.enable() is None
  message, = caplog.messages
  assert str(folder) in message and 'DV3_COMPILE_CACHE' in message
  assert ('Not a directory' if kind == 'a file' else '0.47 GiB') in message


def test_other_code_and_options_have_a_place_of_their_own(monkeypatch):
  first = compile_cache.machine()
  assert first == compile_cache.machine()
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_enable_fast_math=true')
  assert first != compile_cache.machine()


def train(folder, logdir):
  """Runs a tiny training; returns the losses, means over its updates."""
  subprocess.run(
      [sys.executable, '-m', 'dv3.bin.train', '--gin_file=dreamerv3.gin',
       '--gin_file=task/cartpole.gin', f'--gin_file={TINY}',
       '--gin_param=train.jit_compile=True', '--gin_param=STEPS=60',
       f'--logdir={logdir}'],
      check=True, env={**os.environ, 'DV3_COMPILE_CACHE': str(folder)})
  lines = (logdir / 'metrics.jsonl').read_text().splitlines()
  return {
      name: value for line in lines for name, value in json.loads(line).items()
      if name.startswith('loss/')}


def test_a_run_takes_over_what_another_compiled_and_computes_the_same(tmp_path):
  folder = tmp_path / 'kept'
  first = train(folder, tmp_path / 'first')
  assert {'loss/actor', 'loss/critic', 'loss/dynamics'} <= first.keys()
  kept = {path: path.stat() for path in folder.rglob('*.pb.*')}
  assert len(kept) >= 2  # The policy, and the update's loss and gradients.
  update = max(kept, key=lambda path: kept[path].st_size)
  policy = min(kept, key=lambda path: kept[path].st_size)
  policy.write_bytes(policy.read_bytes()[:-1000])
  assert train(folder, tmp_path / 'second') == first
  assert update.stat().st_mtime_ns == kept[update].st_mtime_ns
  name, _ = policy.name.rsplit('.', 1)
  again, = folder.rglob(f'{name}.*')
  assert again.stat().st_size == kept[policy].st_size
