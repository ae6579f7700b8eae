"""The registry: what may register, who finds it, and what errors say."""

import functools
import importlib
import importlib.util
import pathlib
import pickle
import subprocess
import sys
import textwrap
import warnings

import gin
import gymnasium
import pytest

import dv3
from dv3 import errors
from dv3 import interfaces
from dv3 import plugins
from dv3 import registry
from dv3 import types

ROOT = pathlib.Path(dv3.__file__).parent


@pytest.fixture(autouse=True)
def isolated(monkeypatch):
  before = dict(registry._components)
  monkeypatch.setattr(plugins, '_loaded', {})
  gin.clear_config()
  yield
  gin.clear_config()
  for kind, name in set(registry._components) - set(before):
    if '.' in name:  # The library's modules are imported only once.
      del registry._components[kind, name]
  registry._components.update(before)


class Scale(interfaces.Balancer):
  """Multiplies by a factor."""

  def __init__(self, *, factor: float = 2.0, names: tuple[str, ...] = ()):
    self.factor = factor
    self.names = names

  def __call__(self, means):
    return self.factor * sum(means.values()), {}


class Grid:
  """Not an interface's subclass: environments may be anything."""

  def __init__(self, size, *, wall: bool = False, render_mode=None):
    self.size, self.wall, self.render_mode = size, wall, render_mode


def message(action, *args, **kwargs):
  with pytest.raises(errors.UserError) as caught:
    action(*args, **kwargs)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def add(kind, name, factory, **options):
  return registry.register(kind, name, **options)(factory)


def write_package(folder, name, body, keys):
  """Writes an installed package with entry points under a folder."""
  (folder / f'{name}.py').write_text(textwrap.dedent(body))
  info = folder / f'{name}-1.0.dist-info'
  info.mkdir()
  (info / 'METADATA').write_text(
      f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
  lines = [f'{key} = {value}' for key, value in keys.items()]
  (info / 'entry_points.txt').write_text(
      '\n'.join(['[dv3.components]', *lines, '']))


def test_registered_component_is_returned_and_gin_does_not_touch_calls():
  assert add('balancer', 'acme.scale', Scale) is Scale
  assert registry.get('balancer', 'acme.scale') is Scale
  assert 'acme.scale' in registry.names('balancer')
  gin.parse_config('balancer.acme.scale.factor = 5.0')
  assert Scale().factor == 2.0
  assert gin.get_configurable('balancer.acme.scale')().factor == 5.0


def test_unknown_kind_names_the_nearest():
  assert message(registry.get, 'cores', 'rssm') == (
      "there is no kind 'cores'; did you mean core?")
  assert message(add, 'samplr', 'acme.x', Scale) == (
      "there is no kind 'samplr'; did you mean sampler?")


def test_unknown_name_tells_nearest_and_how_to_load_others():
  text = message(registry.get, 'encoder', 'dicts')
  assert text.startswith(
      "there is no encoder named 'dicts'; did you mean dict?")
  assert '--plugin=' in text
  text = message(registry.get, 'balancer', 'qqq')
  assert 'known names of kind balancer: ' in text


def test_unknown_name_that_is_an_extra(monkeypatch):
  monkeypatch.setattr(plugins, 'extras', lambda: ('doom',))
  assert '-m pip install "dv3[doom]"' in message(registry.get, 'env', 'doom')
  monkeypatch.setattr(plugins, 'extras', lambda: ('flappy-bird',))
  assert '"dv3[flappy-bird]"' in message(registry.get, 'env', 'flappy_bird')


def test_bare_names_belong_to_the_library():
  text = message(add, 'balancer', 'scale', Scale)
  assert 'bare names belong to dv3' in text
  assert "register ('balancer', 'yourname.scale')" in text


@pytest.mark.parametrize('name', ['a.b.c', 'a-b', '.a', '1a.b', ''])
def test_malformed_names_are_refused(name):
  assert 'write vendor.name' in message(add, 'balancer', name, Scale)


def test_contract_missing_methods_are_listed():
  class Half(interfaces.Normalizer):
    def build(self):
      pass
  text = message(add, 'normalizer', 'acme.half', Half)
  assert 'lacks read, update' in text
  assert 'dv3.interfaces.Normalizer' in text


def test_contract_a_method_of_the_framework_does_not_count():
  import tf_keras as keras

  class Empty(keras.layers.Layer, interfaces.Head):
    def __init__(self, *, feature_spec, **kwargs):
      super().__init__(**kwargs)
  assert 'lacks build, call' in message(add, 'head', 'acme.empty', Empty)

  class Full(Empty):
    def build(self, input_shape=None):
      pass

    def call(self, features):
      return features
  add('head', 'acme.full', Full)


def test_contract_class_must_derive_from_the_interface():
  assert 'does not derive from dv3.interfaces.Balancer' in message(
      add, 'balancer', 'acme.grid', Grid)
  assert 'is a function; components of kind balancer are classes' in message(
      add, 'balancer', 'acme.f', lambda factor=1: factor)


def test_signature_must_take_keywords():
  class Positional(Scale):
    def __init__(self, factor, /):
      pass

  class Star(Scale):
    def __init__(self, *factors):
      pass
  assert "cannot take its argument 'factor' by keyword" in message(
      add, 'balancer', 'acme.p', Positional)
  assert "cannot take its argument 'factors' by keyword" in message(
      add, 'balancer', 'acme.s', Star)


def test_signature_must_accept_what_the_library_passes():
  class Quiet(interfaces.Logger):
    def __init__(self, *, path=''):
      pass

    def write(self, step, metrics):
      pass
  text = message(add, 'logger', 'acme.quiet', Quiet)
  assert 'does not accept logdir' in text


def test_factory_functions_for_environments_and_optimizers():
  def make(*, size: int = 3):
    return size
  add('env', 'acme.make', make)
  add('optimizer', 'acme.make', make)
  assert registry.get('env', 'acme.make')(size=4) == 4


def test_duplicate_shows_both_origins():
  add('balancer', 'acme.scale', Scale)

  class Other(Scale):
    pass
  text = message(add, 'balancer', 'acme.scale', Other)
  assert text.count(f'{__file__}:') == 2
  assert 'override=True' in text
  add('balancer', 'acme.scale', Scale)  # The same object again.
  add('balancer', 'acme.scale', Other, override=True)
  assert registry.get('balancer', 'acme.scale') is Other
  add('balancer', 'acme.scale', Scale)  # The original, imported late.
  assert registry.get('balancer', 'acme.scale') is Other


def test_override_of_a_library_component():
  name = registry.names('encoder')[0]
  original = registry.get('encoder', name)
  entry = registry._components['encoder', name]

  class Mine(original):
    pass
  add('encoder', name, Mine, override=True)
  assert registry.get('encoder', name) is Mine
  assert 'bare names belong to dv3' in message(
      add, 'encoder', 'nobody', Mine, override=True)
  add('encoder', name, original, override=True)  # gin's, too.
  registry._components['encoder', name] = entry


PLUGIN = """
    import dv3
    from dv3 import interfaces

    @dv3.register('balancer', 'acme.first')
    class First(interfaces.Balancer):
      '''The first loss only.'''

      def __init__(self, *, index: int = 0):
        self.index = index

      def __call__(self, means):
        return list(means.values())[self.index], {}
    """


def test_reload_and_double_import_are_idempotent(tmp_path, monkeypatch):
  (tmp_path / 'acme_reload.py').write_text(textwrap.dedent(PLUGIN))
  monkeypatch.syspath_prepend(tmp_path)
  module = importlib.import_module('acme_reload')
  first = module.First
  importlib.reload(module)
  assert registry.get('balancer', 'acme.first') is module.First
  assert module.First is not first
  # The same file under another module name, as `__main__` would be.
  plugins.load([str(tmp_path / 'acme_reload.py')])
  assert registry.get('balancer', 'acme.first').__doc__ == (
      'The first loss only.')


def test_main_module_may_be_imported_by_its_name_too(tmp_path):
  (tmp_path / 'acme_main.py').write_text(textwrap.dedent(PLUGIN) + textwrap.
      dedent("""
      if __name__ == '__main__':
        import acme_main
        assert acme_main.First is not First
        print(dv3.get('balancer', 'acme.first').__module__)
      """))
  for command in (['-m', 'acme_main'], ['acme_main.py']):
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, text=True,
        capture_output=True, env={'PYTHONPATH': f'{ROOT.parent}:{tmp_path}'})
    assert (done.stdout, done.stderr) == ('acme_main\n', ''), done


def test_registering_works_while_gin_is_locked():
  gin.parse_config('')
  gin.finalize()
  add('balancer', 'acme.late', Scale)
  assert gin.config_is_locked()


def test_gin_reference_to_an_environment_is_a_picklable_recipe():
  add('env', 'acme.grid', Grid)
  gin.parse_config("""
      env.acme.grid.size = %SIZE
      env.acme.grid.wall = True
      SIZE = 7
      """)
  recipe = gin.get_configurable('env.acme.grid')()
  assert recipe == types.Recipe(
      'env', 'acme.grid', {'size': 7, 'wall': True}, recipe.plugins)
  again = pickle.loads(pickle.dumps(recipe))
  assert again == recipe
  assert registry.get('env', 'acme.grid') is Grid
  grid = types.Recipe('env', 'acme.grid', recipe.kwargs).build(
      render_mode='rgb_array')
  assert (grid.size, grid.wall, grid.render_mode) == (7, True, 'rgb_array')


def test_recipe_lacks_an_argument():
  add('env', 'acme.grid', Grid)
  with pytest.raises(errors.UserError, match='env.acme.grid needs size'):
    gin.get_configurable('env.acme.grid')()


def test_recipe_names_the_plugins_that_a_worker_needs(tmp_path, monkeypatch):
  body = """
      import dv3

      @dv3.register('env', 'acme.{0}')
      def make(*, size: int = 3):
        return ('{0}', size)
      """
  (tmp_path / 'acme_module.py').write_text(
      textwrap.dedent(body.format('module')))
  (tmp_path / 'file.py').write_text(textwrap.dedent(body.format('file')))
  monkeypatch.syspath_prepend(tmp_path)
  importlib.import_module('acme_module')  # As a gin file's import would.
  path = str(tmp_path / 'file.py')
  registry.load_plugins([path])
  assert gin.get_configurable('env.acme.module')().plugins == (
      path, 'acme_module')
  recipe = gin.get_configurable('env.acme.file')()
  assert recipe.plugins == (path,)
  # What a spawned worker does, in a fresh interpreter.
  source = (
      'import pickle, sys; recipe = pickle.loads(bytes.fromhex(sys.argv[1])); '
      "print(recipe.build(size=5)); print('tensorflow' in sys.modules)")
  done = subprocess.run(
      [sys.executable, '-c', source, pickle.dumps(recipe).hex()], text=True,
      cwd=ROOT.parent, capture_output=True)
  assert done.stdout == "('file', 5)\nFalse\n", done.stderr


@pytest.mark.parametrize('id, loaded', [
    ('CartPole-v1', False), ('acme/Poles-v0', True)])
def test_plugins_reach_the_librarys_environments_only_if_they_must(
    tmp_path, id, loaded):
  # Most plugins import TensorFlow, which workers must not without need.
  path = tmp_path / 'acme_poles.py'
  path.write_text("""
import colorsys  # Stands for TensorFlow.

import gymnasium

gymnasium.register(
    'acme/Poles-v0', 'gymnasium.envs.classic_control:CartPoleEnv')
""")
  registry.load_plugins([str(path)])
  del gymnasium.registry['acme/Poles-v0']  # Of this process.
  registry.get('env', 'gymnasium')
  gin.parse_config(f"env.gymnasium.id = '{id}'")
  recipe = gin.get_configurable('env.gymnasium')()
  source = (
      'import pickle, sys; recipe = pickle.loads(bytes.fromhex(sys.argv[1])); '
      "print(recipe.build().spec.id, 'colorsys' in sys.modules)")
  done = subprocess.run(
      [sys.executable, '-c', source, pickle.dumps(recipe).hex()], text=True,
      cwd=ROOT.parent, capture_output=True)
  assert done.stdout == f'{id} {loaded}\n', done.stderr


def test_entry_points_are_listed_without_import(tmp_path, monkeypatch):
  write_package(tmp_path, 'acme_listed', PLUGIN.replace('first', 'listed'), {
      'balancer.acme.listed': 'acme_listed'})
  monkeypatch.syspath_prepend(tmp_path)
  assert 'acme.listed' in registry.names('balancer')
  assert 'acme_listed' not in sys.modules
  text = message(registry.get, 'balancer', 'acme.liste')
  assert 'did you mean acme.listed' in text
  assert ('Installed plugins not loaded: balancer.acme.listed (acme_listed)'
          in text)
  assert registry.get('balancer', 'acme.listed').__name__ == 'First'
  assert 'acme_listed' in sys.modules


def test_entry_point_of_an_unregistered_class(tmp_path, monkeypatch):
  body = PLUGIN.replace("@dv3.register('balancer', 'acme.first')", '')
  write_package(tmp_path, 'acme_plain', body, {
      'balancer.acme.plain': 'acme_plain:First',
      'balancer.acme.absent': 'acme_plain'})
  monkeypatch.syspath_prepend(tmp_path)
  assert registry.get('balancer', 'acme.plain').__name__ == 'First'
  assert "add @dv3.register('balancer', 'acme.absent') there" in message(
      registry.get, 'balancer', 'acme.absent')


def test_broken_entry_point_hurts_only_who_uses_it(tmp_path, monkeypatch):
  write_package(tmp_path, 'acme_broken', 'import no_such_thing_at_all', {
      'balancer.acme.broken': 'acme_broken'})
  monkeypatch.syspath_prepend(tmp_path)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    importlib.reload(dv3)
    assert 'acme.broken' in registry.names('balancer')
    registry.get('encoder', registry.names('encoder')[0])
  with pytest.warns(RuntimeWarning, match='(?s)Traceback.*no_such_thing'):
    text = message(registry.get, 'balancer', 'acme.broken')
  assert 'comes from the installed package acme_broken' in text
  assert "No module named 'no_such_thing_at_all'" in text


def test_two_packages_announce_one_component(tmp_path, monkeypatch):
  for name in ('acme_one', 'acme_two'):
    write_package(tmp_path, name, PLUGIN, {'balancer.acme.same': name})
  monkeypatch.syspath_prepend(tmp_path)
  text = message(registry.get, 'balancer', 'acme.same')
  assert 'acme_one (acme_one) and acme_two (acme_two)' in text


def test_plugins_by_file_and_module(tmp_path, monkeypatch):
  (tmp_path / 'mine.py').write_text(textwrap.dedent(PLUGIN))
  monkeypatch.chdir(tmp_path)
  registry.load_plugins(['mine.py', 'json'])
  registry.load_plugins(['mine.py'])
  assert plugins.loaded() == (str(tmp_path / 'mine.py'), 'json')
  assert registry.get('balancer', 'acme.first').__doc__


def test_plugins_that_fail_tell_the_cause(tmp_path):
  path = tmp_path / 'broken.py'
  text = message(registry.load_plugins, [str(path)])
  assert text == f'plugin {path}: there is no such file; check the path'
  path.write_text('1 / 0')
  assert 'cannot be imported: ZeroDivisionError: division by zero' in message(
      registry.load_plugins, [str(path)])
  path.write_text('import no_such_thing_at_all')
  text = message(registry.load_plugins, [str(path)])
  assert "ModuleNotFoundError: No module named 'no_such_thing" in text
  text = message(registry.load_plugins, ['no_such_thing_at_all.part'])
  assert 'there is no module no_such_thing_at_all; install it' in text
  assert plugins.loaded() == ()


def test_missing_package_names_the_extra(monkeypatch):
  monkeypatch.setitem(registry.TABLE, 'env.needy', 'dv3.envs.needy')
  monkeypatch.setattr(plugins, '_metadata', lambda field: (
      'gin-config', "no_such_thing[all]>=1.0; extra == 'needs'"))

  def fail(name):
    raise ModuleNotFoundError('No module', name='no_such_thing.part')
  monkeypatch.setattr(registry.importlib, 'import_module', fail)
  assert message(registry.get, 'env', 'needy') == (
      'env.needy needs the package no_such_thing.part, which is not installed; '
      f'{errors.pip_install("dv3[needs]")}')


def test_describe():
  add('balancer', 'acme.scale', Scale)
  description = registry.describe('balancer', 'acme.scale')
  assert [tuple(a) for a in description.arguments] == [
      ('factor', 'float', '2.0', False),
      ('names', 'tuple[str, ...]', '()', False)]
  assert description.doc == 'Multiplies by a factor.'
  assert description.origin.startswith(f'{__file__}:')
  assert description.gin_files == ()
  description = registry.describe('core', 'rssm')
  arguments = {a.name: a for a in description.arguments}
  assert arguments['token_size'].given
  assert arguments['token_size'].default is None
  assert 'dreamerv3.gin' in description.gin_files


def test_import_is_light():
  source = (
      'import sys, dv3, dv3.registry; dv3.names("core"); '
      'print([m for m in ("gin", "tensorflow") if m in sys.modules])')
  done = subprocess.run(
      [sys.executable, '-c', source], cwd=ROOT.parent, text=True,
      capture_output=True)
  assert done.stdout == '[]\n', done.stderr


def component_files():
  """Yields the modules that register something."""
  for kind in registry.KINDS:
    plural = kind if kind.endswith('exploration') else (
        'losses' if kind == 'loss' else f'{kind}s')
    for path in sorted((ROOT / plural).glob('*.py')):
      if 'registry.register(' in path.read_text():
        yield f'dv3.{plural}.{path.stem}'


def test_every_component_file_is_in_the_table():
  assert set(component_files()) <= set(registry.TABLE.values())


@pytest.mark.parametrize('key', registry.TABLE)
def test_every_line_of_the_table_registers_its_name(key):
  kind, name = key.split('.')
  registry.get(kind, name)
  assert registry._components[kind, name].origin.startswith(
      importlib.util.find_spec(registry.TABLE[key]).origin)


def test_a_collector_without_what_is_asked_for_says_so():
  class Small(interfaces.Collector):
    """Has what every collector must have."""

  with pytest.raises(errors.UserError, match='Small cannot evaluate; define'):
    Small().evaluate(None, 3)
  with pytest.raises(errors.UserError, match='Small cannot change its number'):
    Small().resize(3)


def test_a_callable_without_a_name_is_refused():
  with pytest.raises(errors.UserError, match='register a function'):
    dv3.register('env', 'test.partial')(functools.partial(gymnasium.Env))
  assert 'test.partial' not in registry.names('env')
