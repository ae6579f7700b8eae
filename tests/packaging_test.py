"""What is packed is what belongs to dv3, whatever else lies beside it."""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).absolute().parents[1]
LEFT = (
    'gin/task/crafter.gin~', 'gin/task/.crafter.gin.swp', 'gin/mine.gin.orig',
    'dv3/.registry.py.swo', 'dv3/registry.py.orig', 'programs/program.json',
    'report.html', 'sizes.png', 'examples/plugin/acme_sines.gin~')
"""What editors, and the commands of the documentation, leave in a clone."""


def test_packages_hold_nothing_that_was_left_in_the_clone(tmp_path):
  clone = tmp_path / 'clone'
  for folder in ('dv3', 'gin', 'examples/plugin'):
    shutil.copytree(
        ROOT / folder, clone / folder,
        ignore=shutil.ignore_patterns('__pycache__'))
  for name in ('README.md', 'pyproject.toml'):
    shutil.copy(ROOT / name, clone)
  (clone / 'LICENSE').write_text('Any.')
  kept = {
      path.relative_to(clone).as_posix() for path in clone.rglob('*')
      if path.is_file()}
  for name in LEFT:
    (clone / name).parent.mkdir(exist_ok=True)
    (clone / name).touch()
  subprocess.run(
      [sys.executable, '-m', 'hatchling', 'build', '-d', str(tmp_path)],
      cwd=clone, check=True, capture_output=True)
  with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as wheel:
    assert {x for x in wheel.namelist() if '.dist-info/' not in x} == {
        name.replace('gin/', 'dv3/gin_configs/', 1)
        if name.startswith('gin/') else name
        for name in kept if name.startswith(('dv3/', 'gin/'))}
  with tarfile.open(next(tmp_path.glob('*.tar.gz'))) as source:
    found = {name.partition('/')[2] for name in source.getnames()}
  assert found == kept | {'PKG-INFO'}
