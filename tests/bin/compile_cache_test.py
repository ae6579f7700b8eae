"""What is kept of compiled programs, and that no damage reaches a run."""

import importlib.metadata
import json
import logging
import os
import pathlib
import subprocess
import sys
import time

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
  half = tmp_path / dead.name.replace('view-', 'view-half')
  elsewhere = tmp_path / 'view-abc@elsewhere'
  for folder in (half, elsewhere):
    folder.mkdir()
  compile_cache.Cache(tmp_path, spare_bytes=0).close()
  assert not dead.exists() and not half.exists()
  assert alive.view.exists() and elsewhere.exists()
  assert not list(tmp_path.glob('a.*'))


def test_what_is_too_large_leaves_the_rest(tmp_path):
  first = compile_cache.Cache(tmp_path, spare_bytes=0)
  compiled(first, 'a', bytes(10))
  first.keep()
  kept, = tmp_path.glob('a.*')
  os.utime(kept, (1, 1))
  compiled(first, 'b', bytes(1000))
  first.close()
  second = compile_cache.Cache(tmp_path, spare_bytes=0, largest_bytes=100)
  assert set(seen(second)) == {'a.pb'}


def test_what_no_machine_used_for_long_is_removed(tmp_path):
  stores = [tmp_path / f'2.{i}-{i:016x}' for i in range(3)]
  for store in stores:
    cache = compile_cache.Cache(store, spare_bytes=0)
    compiled(cache, 'a', b'of a')
    cache.close()
  (stores[2] / 'new-abc').mkdir()
  # The user may have named a folder with other things in it.
  mine = tmp_path / 'my-data', tmp_path / f'2.9-{9:016x}'
  for folder in mine:
    folder.mkdir()
    (folder / 'mine.pb').touch()
  long_ago = time.time() - 40 * 86400
  for folder in (stores[0], stores[2] / 'new-abc', *mine):
    os.utime(folder, (long_ago, long_ago))
  compile_cache.Cache(stores[2], spare_bytes=0).close()
  assert [store.exists() for store in stores] == [False, True, True]
  assert all((folder / 'mine.pb').exists() for folder in mine)
  assert [path.name[:4] for path in stores[2].iterdir()] == ['a.pb']


def test_links_are_copies_where_there_are_none(tmp_path, monkeypatch):
  first = compile_cache.Cache(tmp_path, spare_bytes=0)
  compiled(first, 'a', b'of a')
  first.close()
  def refused(*args):
    raise PermissionError(1, 'Operation not permitted')
  monkeypatch.setattr(compile_cache.os, 'link', refused)
  assert seen(compile_cache.Cache(tmp_path, spare_bytes=0)) == {
      'a.pb': b'of a'}


def test_a_view_that_is_somebody_elses_stays(tmp_path, monkeypatch):
  other = compile_cache.Cache(tmp_path, spare_bytes=0)
  def foreign(path, *args):
    raise PermissionError(13, 'Permission denied')
  monkeypatch.setattr(compile_cache, 'open', foreign, raising=False)
  compile_cache.Cache(tmp_path, spare_bytes=0).close()
  assert other.view.exists()


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
    {'TF_XLA_FLAGS': '--tf_xla_persistent_cache_directory=/mine'},
    {'DV3_COMPILE_CACHE': '/tmp/with"quote'}])
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


@pytest.mark.parametrize('kind', ['a file', 'little left', 'quota'])
def test_a_folder_that_cannot_be_used_is_a_warning(
    kind, tmp_path, monkeypatch, caplog):
  folder = tmp_path / 'kept'
  if kind == 'a file':
    folder.write_text('')
  elif kind == 'quota':
    def over(*args):
      raise OSError(122, 'Disk quota exceeded')
    monkeypatch.setattr(compile_cache.os, 'posix_fallocate', over)
  else:
    monkeypatch.setattr(
        compile_cache.shutil, 'disk_usage',
        lambda path: compile_cache.shutil._ntuple_diskusage(2e9, 1e9, 5e8))
  monkeypatch.setenv('DV3_COMPILE_CACHE', str(folder))
  with caplog.at_level(logging.WARNING):
    assert compile_cache.enable() is None
  message, = caplog.messages
  assert str(folder) in message and 'DV3_COMPILE_CACHE' in message
  assert {
      'a file': 'Not a directory', 'quota': 'quota exceeded',
      'little left': '0.47 GiB'}[kind] in message
  assert not list(tmp_path.rglob('new-*'))


def test_other_code_and_options_have_a_place_of_their_own(monkeypatch):
  names = {compile_cache.machine()}
  assert names == {compile_cache.machine()}
  for name in ('XLA_FLAGS', 'TF_XLA_FLAGS'):
    monkeypatch.setenv(name, '--xla_cpu_enable_fast_math=true')
    names.add(compile_cache.machine())
    monkeypatch.delenv(name)
  monkeypatch.setattr(compile_cache, '_processor', lambda: 'another')
  names.add(compile_cache.machine())
  monkeypatch.undo()
  monkeypatch.setattr(
      importlib.metadata.PathDistribution, 'read_text', lambda *args: 'another')
  names.add(compile_cache.machine())
  assert len(names) == 5 and None not in names


def test_nothing_is_kept_for_an_unknown_tensorflow(tmp_path, monkeypatch):
  monkeypatch.setenv('DV3_COMPILE_CACHE', str(tmp_path))
  def unknown(name):
    raise importlib.metadata.PackageNotFoundError(name)
  monkeypatch.setattr(importlib.metadata, 'distribution', unknown)
  assert compile_cache.enable() is None and not list(tmp_path.iterdir())


def test_nothing_is_kept_without_a_home(monkeypatch):
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  assert compile_cache.enable() is None


def test_flags_come_and_go_with_it(tmp_path, monkeypatch):
  monkeypatch.setenv('DV3_COMPILE_CACHE', str(tmp_path))
  for mine in (None, '--tf_xla_auto_jit=0'):
    if mine:
      monkeypatch.setenv('TF_XLA_FLAGS', mine)
    cache = compile_cache.enable()
    assert os.environ['TF_XLA_FLAGS'].split() == [
        *([mine] if mine else []),
        f'--tf_xla_persistent_cache_directory="{cache.view}"']
    assert compile_cache.enable() is None
    compile_cache.disable()
    assert os.environ.get('TF_XLA_FLAGS') == mine and not cache.view.exists()
    cache.close()


def train(folder, logdir):
  """Runs a tiny training.

  Returns:
    (losses, means over its updates; how many programs it took over).
  """
  result = subprocess.run(
      [sys.executable, '-m', 'dv3.bin.train', '--gin_file=dreamerv3.gin',
       '--gin_file=task/cartpole.gin', f'--gin_file={TINY}',
       '--gin_param=train.jit_compile=True', '--gin_param=STEPS=60',
       f'--logdir={logdir}'], capture_output=True, text=True,
      env={**os.environ, 'DV3_COMPILE_CACHE': str(folder),
           'TF_CPP_MIN_LOG_LEVEL': '0',
           'TF_CPP_VMODULE': 'device_executable_persistor=1'}, check=False)
  assert result.returncode == 0, result.stderr[-3000:]
  lines = (logdir / 'metrics.jsonl').read_text().splitlines()
  losses = {
      name: value for line in lines for name, value in json.loads(line).items()
      if name.startswith('loss/')}
  return losses, result.stderr.count('Loading cached entry')


def test_a_run_takes_over_what_another_compiled_and_computes_the_same(tmp_path):
  folder = tmp_path / 'kept here'
  first, taken = train(folder, tmp_path / 'first')
  assert {'loss/actor', 'loss/critic', 'loss/dynamics'} <= first.keys()
  assert taken == 0
  kept = list(folder.rglob('*.pb.*'))
  assert len(kept) >= 2  # The policy, and the update's loss and gradients.
  policy = min(kept, key=lambda path: path.stat().st_size)
  size = policy.stat().st_size
  policy.write_bytes(policy.read_bytes()[:-1000])
  again, taken = train(folder, tmp_path / 'second')
  assert again == first and taken == len(kept) - 1
  name, _ = policy.name.rsplit('.', 1)
  policy, = folder.rglob(f'{name}.*')
  assert policy.stat().st_size == size
