"""Programs that XLA compiled, kept for the next start.

  compile_cache.enable()        # before TensorFlow compiles anything

A start of the same configuration on the same kind of machine then reads in a
second what took ten to compile: when a run goes on, in sweeps, in evaluation.

DV3_COMPILE_CACHE names another folder than ~/.cache/dv3/compiled; nothing is
kept if it is empty, nor on machines with an accelerator, where this was not
tried. What TF_XLA_FLAGS says about TensorFlow's own cache is left alone.
"""

# TensorFlow reads and writes a folder by itself, but fails where a file in it
# is damaged or cannot be written. So it gets a folder of this process alone,
# with links to those kept files whose content has the checksum in their name,
# and what it adds there is kept by this module. No file changes in place.

import atexit
import contextlib
import fcntl
import glob
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import re
import shutil
import socket
import sys
import tempfile
import threading
import time

_FLAG = '--tf_xla_persistent_cache_directory'
_ACCELERATORS = (
    '/dev/nvidia[0-9]*', '/dev/kfd', '/dev/dxg', '/dev/accel*',
    '/dev/vfio/[0-9]*')
_LARGEST_BYTES = 256 * 2 ** 20  # About 40 programs of an update.
_SPARE_BYTES = 2 ** 30
_PROBE_BYTES = 64 * 2 ** 20  # Above what one configuration needs.
_UNUSED_DAYS = 30
_STORE = re.compile(r'[\w.]+-[0-9a-f]{16}')  # As `machine` names it.
_OWN = re.compile(r'(view|new)-|.*\.pb\.[0-9a-f]{64}$')

_enabled: 'list[tuple[Cache, str | None]]' = []


def enable(default: bool = True) -> 'Cache | None':
  """Lets TensorFlow take over what earlier processes compiled.

  Args:
    default: whether to where DV3_COMPILE_CACHE is not set.

  Returns:
    The cache, or None where nothing is kept: a warning says so if the folder
    cannot be used, or its disk has less than 1 GiB left.
  """
  folder = os.environ.get('DV3_COMPILE_CACHE')
  if folder is None and default:
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.path.join(home, 'dv3', 'compiled')
  flags = os.environ.get('TF_XLA_FLAGS')
  if (not folder or folder.startswith('~') or '"' in folder
      or 'persistent_cache' in (flags or '')
      or any(glob.glob(pattern) for pattern in _ACCELERATORS)):
    return None
  name = machine()
  if name is None:
    return None
  try:
    cache = Cache(pathlib.Path(folder).absolute() / name)
  except OSError as error:
    logging.warning(
        'nothing compiled is kept in %s: %s; every start compiles anew '
        '(DV3_COMPILE_CACHE names another folder, or none if empty)',
        folder, error.strerror or error)
    return None
  # Quoted, since TensorFlow would end the path at a space.
  os.environ['TF_XLA_FLAGS'] = f'{flags or ""} {_FLAG}="{cache.view}"'.strip()
  cache.start()
  _enabled.append((cache, flags))
  return cache


def disable() -> None:
  """Ends what `enable` began, for a process that becomes another program."""
  while _enabled:
    cache, flags = _enabled.pop()
    cache.close()
    del os.environ['TF_XLA_FLAGS']
    if flags is not None:
      os.environ['TF_XLA_FLAGS'] = flags


def machine() -> str | None:
  """Returns a name for all that compiled code depends on beside the program.

  None where it is not known which build of TensorFlow this is.
  """
  try:
    tensorflow = importlib.metadata.distribution('tensorflow')
  except importlib.metadata.PackageNotFoundError:
    return None
  # Which has the checksum of each of its libraries.
  build = tensorflow.read_text('RECORD')
  if not build:
    return None
  told = [os.environ.get(name) for name in ('XLA_FLAGS', 'TF_XLA_FLAGS')]
  key = repr((build, sys.platform, platform.machine(), _processor(), told))
  return f'{tensorflow.version}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'


def _processor():
  """Returns what the processor is and can do."""
  with contextlib.suppress(OSError):
    return sorted({
        line for line in pathlib.Path(
            '/proc/cpuinfo').read_text('utf-8').splitlines()
        if line.startswith(('model name', 'flags', 'Features', 'CPU part'))})
  return platform.processor()


class Cache:
  """Kept programs, and this process's view of them.

  Args:
    store: folder of the kept files, NAME.CHECKSUM.
    largest_bytes: the oldest are removed beyond it.
    spare_bytes: that the disk must have left.

  Attributes:
    view: the folder that TensorFlow reads and writes.

  Raises:
    OSError: if the folder cannot be used.
  """

  def __init__(
      self, store: pathlib.Path, *, largest_bytes: int = _LARGEST_BYTES,
      spare_bytes: int = _SPARE_BYTES):
    self._store = store
    store.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store).free
    if free < spare_bytes:
      raise OSError(
          f'its disk has {free / 2 ** 30:.2f} GiB left of the '
          f'{spare_bytes / 2 ** 30:.2f} that it should')
    _remove_unused(store)
    self.view, self._lock = _make_view(store)
    self._known: set[str] = set()
    self._stopped = threading.Event()
    self._keeping = threading.Lock()
    left = largest_bytes
    for kept in self._kept():
      with contextlib.suppress(OSError):  # Another process removed it.
        size = kept.stat().st_size
        name, checksum = kept.name.rsplit('.', 1)
        # Two processes may keep the same at once, in files that differ.
        twice = name in self._known
        if size <= left and not twice and checksum == _checksum(kept):
          _link(kept, self.view / name)
          self._known.add(name)
          left -= size
        else:
          kept.unlink()

  def _kept(self) -> list[pathlib.Path]:
    """Returns the kept files, newest first."""
    def age(path):
      with contextlib.suppress(OSError):
        return -path.stat().st_mtime
      return 0.0
    return sorted(
        (path for path in self._store.iterdir() if path.is_file()
         and '.pb.' in path.name), key=age)

  def start(self, seconds: float = 5.0) -> None:
    """Keeps what TensorFlow compiles, now and then and at the end."""
    def work():
      while not self._stopped.wait(seconds):
        self.keep()
    threading.Thread(target=work, daemon=True, name='compile_cache').start()
    atexit.register(self.close)

  def keep(self) -> int:
    """Keeps what is new in the view; returns how many files.

    A full disk or a vanished folder loses nothing but time at the next start.
    """
    count = 0
    with self._keeping, contextlib.suppress(OSError):
      for path in self.view.glob('*.pb'):
        if path.name not in self._known:
          self._known.add(path.name)
          if not any(self._store.glob(f'{glob.escape(path.name)}.*')):
            part = path.with_suffix('.part')
            shutil.copyfile(path, part)
            os.replace(part, self._store / f'{path.name}.{_checksum(path)}')
            count += 1
    return count

  def close(self) -> None:
    """Keeps what is new, and removes the view."""
    if not self._stopped.is_set():
      self._stopped.set()
      self.keep()
      shutil.rmtree(self.view, ignore_errors=True)
      os.close(self._lock)


def _checksum(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  """Links a file that is not there yet; copies where there are no links."""
  try:
    os.link(source, target)
  except FileExistsError:
    raise
  except OSError:
    shutil.copyfile(source, target)


def _make_view(store: pathlib.Path) -> tuple[pathlib.Path, int]:
  """Makes a folder, which is a view once it is locked.

  The lock ends with the process, however that ends.

  Returns:
    (view, descriptor of the lock).

  Raises:
    OSError: if it cannot be, or a quota or limit leaves no room for programs:
      TensorFlow would fail where it cannot write one.
  """
  folder = pathlib.Path(tempfile.mkdtemp(prefix='new-', dir=store))
  lock = os.open(folder / 'lock', os.O_CREAT | os.O_RDWR, 0o600)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with tempfile.TemporaryFile(dir=folder) as probe:
      os.posix_fallocate(probe.fileno(), 0, _PROBE_BYTES)
    name = folder.name.replace('new-', 'view-', 1)
    return folder.rename(store / f'{name}{_of_this_host()}'), lock
  except OSError:
    os.close(lock)
    shutil.rmtree(folder, ignore_errors=True)
    raise


def _of_this_host() -> str:
  """Returns how a view's name ends; locks may not hold between hosts."""
  return f'@{socket.gethostname()}'


def _remove_unused(store: pathlib.Path) -> None:
  """Removes views of dead processes, and what other machines left unused."""
  for view in store.glob(f'view-*{glob.escape(_of_this_host())}'):
    with contextlib.ExitStack() as stack:
      try:
        # Network file systems lock only what can be written.
        lock = stack.enter_context(open(view / 'lock', 'r+'))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except FileNotFoundError:  # Removed half.
        pass
      except OSError:  # Its process lives, or it is somebody else's.
        continue
      shutil.rmtree(view, ignore_errors=True)
  for folder in store.glob('new-*'):
    if _is_old(folder, 1):
      shutil.rmtree(folder, ignore_errors=True)
  for folder in store.parent.glob('*-*'):
    if folder != store and _is_old(folder, _UNUSED_DAYS) and _is_store(folder):
      shutil.rmtree(folder, ignore_errors=True)


def _is_old(folder: pathlib.Path, days: float) -> bool:
  """Whether nothing was added to a folder for so long."""
  try:
    return time.time() - folder.stat().st_mtime > days * 86400
  except OSError:  # Another process removed it.
    return False


def _is_store(folder: pathlib.Path) -> bool:
  """Whether a folder is one of these; a user may have named any place."""
  if not _STORE.fullmatch(folder.name):
    return False
  try:
    return all(_OWN.match(path.name) for path in folder.iterdir())
  except OSError:  # No folder, or somebody else's.
    return False
