"""dv3-components, as users start it."""

import json
import pathlib
import subprocess
import sys
import textwrap

import pytest

from dv3 import registry

ROOT = pathlib.Path(__file__).parents[2]
PLUGIN = """
    import dv3

    @dv3.register('env', 'acme.grid')
    def grid(*, size: int, wall: bool = False, **options):
      '''A grid.

      Args:
        size: cells a side.
      '''
    """


@pytest.fixture(name='plugin')
def make_plugin(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(textwrap.dedent(PLUGIN))
  return path


def components(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'dv3.bin.components', *map(str, arguments)],
      text=True, capture_output=True, cwd=ROOT)


def test_list():
  done = components('list')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.split() == [
      f'{kind}.{name}' for kind in registry.KINDS
      for name in sorted(
          key.partition('.')[2] for key in registry.TABLE
          if key.startswith(f'{kind}.'))]


def test_list_of_a_kind_as_json(plugin):
  done = components('list', 'env', '--json', f'--plugin={plugin}')
  listed = json.loads(done.stdout)
  assert list(listed) == ['env']
  assert 'acme.grid' in listed['env']


def test_describe(plugin):
  done = components('describe', 'env.acme.grid', f'--plugin={plugin}')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout == textwrap.dedent(f"""\
      env.acme.grid(
          size: int,
          wall: bool = False,
      )

      A grid.

      Args:
        size: cells a side.

      Origin: {plugin}:4
      Shipped gin files that use it: none
      """)


def test_describe_a_core_as_json():
  done = components('describe', 'core.rssm', '--json')
  assert (done.returncode, done.stderr) == (0, '')
  document = json.loads(done.stdout)
  assert (document['kind'], document['name']) == ('core', 'rssm')
  arguments = {a['name']: a for a in document['arguments']}
  assert arguments['token_size'] == {
      'name': 'token_size', 'type': 'int', 'default': None, 'given': True}
  assert arguments['blocks'] == {
      'name': 'blocks', 'type': 'int', 'default': '8', 'given': False}
  assert 'Source:' in document['doc']
  assert document['origin'].startswith(str(ROOT / 'dv3/cores/rssm.py:'))
  assert 'dreamerv3.gin' in document['gin_files']


@pytest.mark.parametrize('arguments, expected', [
    (['describe', 'core.rsm'], 'there is no core named \'rsm\'; did you mean '
                               'rssm?'),
    (['describe', 'cor.rssm'], "there is no kind 'cor'; did you mean core"),
    (['describe', 'rssm'], "'rssm' is no component; say what: "),
    (['list', 'cores'], "there is no kind 'cores'; did you mean core?"),
    (['lst'], "there is no command 'lst'; did you mean list?"),
    ([], 'say what: dv3-components list'),
    (['list', '--plugin=gone.py'], 'gone.py: there is no such file'),
])
def test_mistakes(arguments, expected):
  done = components(*arguments)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('dv3-components: ')
  assert done.stderr.count('\n') == 1
  assert expected in done.stderr
