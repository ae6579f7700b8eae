"""Parsing, checking, saving and loading configurations."""

import pathlib
import re
import textwrap

import gin
import pytest

from dv3 import config
from dv3 import errors
from dv3 import plugins
from dv3 import registry
from dv3 import signatures
from dv3.config import checks
from dv3.config import files
from dv3.config import names

FAKES = str(pathlib.Path(__file__).with_name('config_fakes.py'))
ROOTS = ('fakes.learn',)
SHIPPED_FOLDER = files.shipped_folder()

SHIPPED = {
    'base.gin': """
        WIDTH = %gin.REQUIRED
        STEPS = %gin.REQUIRED
        RATIO = 32
        learn.part = @balancer.fake.sum
        learn.env_steps = %STEPS
        learn.widths = (%WIDTH, 2)
        learn.world = @env.fake.grid
        balancer.fake.sum.factor = 2
        balancer.fake.sum.inner = @low/normalizer.fake.range
        low/normalizer.fake.range.low = -1.5
        normalizer.fake.range.rate = 1e-4
        """,
    'size/1m.gin': 'WIDTH = 8\n',
    'size/12m.gin': 'WIDTH = 96\n',
    'task/grid.gin': 'STEPS = 100\nenv.fake.grid.size = 5\n',
    'variant/other.gin': """
        learn.part = @balancer.fake.other
        """,
    'preset/grid.gin': """
        include 'base.gin'
        include 'size/1m.gin'
        include 'task/grid.gin'
        """,
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  """A shipped folder, a working folder, the fakes, and a clean gin."""
  plugins.load([FAKES])
  shipped = tmp_path / 'shipped'
  for name, text in SHIPPED.items():
    write(shipped / name, text)
  work = tmp_path / 'work'
  work.mkdir()
  monkeypatch.chdir(work)
  monkeypatch.setattr(files, 'shipped_folder', lambda: str(shipped))
  known = dict(plugins._loaded)
  yield
  gin.clear_config()
  plugins._loaded.clear()
  plugins._loaded.update(known)


def write(path, text):
  path = pathlib.Path(path).absolute()
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(textwrap.dedent(text))
  return str(path)


def parse(*gin_files, params=(), **options):
  return config.parse(
      gin_files, params, roots=ROOTS, modules=(), **options)


def load(logdir, params=(), **options):
  return config.load(logdir, params, roots=ROOTS, modules=(), **options)


def refused(*args, action=parse, **kwargs):
  with pytest.raises(errors.UserError) as caught:
    action(*args, **kwargs)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def learn(**kwargs):
  return gin.get_configurable('fakes.learn')(**kwargs)


def test_files_then_parameters_later_wins():
  parse(
      'base.gin', 'size/1m.gin', 'size/12m.gin', 'task/grid.gin',
      params=['STEPS = 7', "learn.name = 'mine'"])
  result = learn()
  assert result['env_steps'] == 7
  assert result['widths'] == (96, 2)
  assert result['name'] == 'mine'
  assert result['part'].factor == 2
  assert (result['part'].inner.low, result['part'].inner.rate) == (-1.5, 1e-4)
  assert result['world'].kwargs == {'size': 5}
  assert gin.config_is_locked()


def test_presets_include_shipped_files():
  preset = parse('preset/grid.gin')
  direct = parse('base.gin', 'size/1m.gin', 'task/grid.gin')
  assert preset.text == direct.text


def test_shipped_files_may_be_links(tmp_path):
  shipped = tmp_path / 'shipped'
  shipped.rename(tmp_path / 'elsewhere')
  for name in SHIPPED:
    (shipped / name).parent.mkdir(parents=True, exist_ok=True)
    (shipped / name).symlink_to(tmp_path / 'elsewhere' / name)
  parse('preset/grid.gin', 'variant/other.gin')  # Leaves bindings unused.
  assert files.label(str(shipped / 'base.gin')) == 'base.gin'


def test_a_configuration_replaces_the_one_before():
  parse('preset/grid.gin', params=["learn.name = 'first'"])
  parse('preset/grid.gin')
  assert learn()['name'] == 'x'


def test_blocks_of_bindings():
  path = write('block.gin', """
      learn:
        name = 'block'
        rate = 0.25
      """)
  parse('preset/grid.gin', path)
  assert (learn()['name'], learn()['rate']) == ('block', 0.25)


def test_nothing_given():
  assert refused() == (
      'no configuration was given; begin with '
      '--gin_file=preset/quickstart.gin')


def test_no_base():
  assert refused('size/1m.gin') == (
      'nothing is bound to learn; begin with a base, '
      '--gin_file=dreamerv3.gin, or a preset, --gin_file=preset/quickstart.gin')


def test_missing_file_names_the_nearest():
  text = refused('preset/gird.gin')
  assert text.startswith('there is no gin file preset/gird.gin, neither in ')
  assert 'did you mean preset/grid.gin' in text


def test_name_found_twice():
  path = write('size/1m.gin', 'WIDTH = 9\n')
  text = refused('base.gin', 'size/1m.gin', 'task/grid.gin')
  assert text.startswith('there are two files size/1m.gin, ')
  assert path in text and files.shipped_folder() in text
  parse('base.gin', path, 'task/grid.gin')  # Absolute: no doubt.
  assert learn()['widths'] == (9, 2)
  # A shipped file means the shipped ones, whatever lies around.
  parse('preset/grid.gin')
  assert learn()['widths'] == (8, 2)


def test_a_copy_is_another_file():
  # Later changes of the one would silently not be in the other.
  write('size/1m.gin', SHIPPED['size/1m.gin'])
  assert refused('base.gin', 'size/1m.gin', 'task/grid.gin').startswith(
      'there are two files size/1m.gin, ')


@pytest.mark.parametrize('way', ['folder', 'symlink', 'hardlink'])
def test_name_found_twice_of_the_same_file(way, tmp_path, monkeypatch):
  shipped = tmp_path / 'shipped'
  if way == 'folder':
    monkeypatch.chdir(shipped)
  elif way == 'symlink':
    (tmp_path / 'work' / 'base.gin').symlink_to(shipped / 'base.gin')
  else:
    (tmp_path / 'work' / 'base.gin').hardlink_to(shipped / 'base.gin')
  # Shipped, so that it may leave bindings unused.
  result = parse(
      'base.gin', 'size/1m.gin', 'task/grid.gin', 'variant/other.gin')
  assert result.unused[0] == 'balancer.fake.sum.factor (base.gin:9)'


def test_includes_of_a_users_file():
  write('sub/more.gin', "learn.name = 'beside'\n")
  path = write('sub/mine.gin', """
      include 'preset/grid.gin'
      include 'more.gin'
      """)
  parse(path)
  assert learn()['name'] == 'beside'
  path = write('sub/absent.gin', "include 'gone.gin'\n")
  assert f'{path}:1: there is no gin file gone.gin' in refused(path)
  path = write('sub/loop.gin', "include 'loop.gin'\n")
  assert 'includes itself' in refused(path)


@pytest.mark.parametrize('param, parts', [
    ('balancer.fake.sun.factor = 1', [
        "there is no balancer named 'fake.sun'; did you mean fake.sum?"]),
    ('balancr.fake.sum.factor = 1', [
        "there is no configurable named 'balancr.fake.sum'",
        'did you mean balancer.fake.sum']),
    ('lern.name = 1', [
        "there is no configurable named 'lern'", 'did you mean learn']),
    ('fake.sum.factor = 1', [
        "'fake.sum' is not a full name; write balancer.fake.sum"]),
    ('learn.stps = 1', [
        "fakes.learn has no argument 'stps'; did you mean env_steps?"]),
    ('balancer.fake.sum.faktor = 1', [
        "balancer.fake.sum has no argument 'faktor'; did you mean factor?"]),
    ('learn.part = @balancer.fake.som', [
        "there is no balancer named 'fake.som'; did you mean fake.sum"]),
    ('learn.env_steps = %STEP', [
        'learn.env_steps refers to the macro %STEP, which nothing binds; did '
        'you mean STEPS?']),
    ('STEP = 3', ['nothing uses STEP; did you mean STEPS?']),
    ('learn.env_steps = "many"', [
        "learn.env_steps must be int, not 'many' (str)"]),
    ('learn.env_steps = 1.5', ['must be int, not 1.5 (float)']),
    ('learn.env_steps = True', ['must be int, not True (bool)']),
    ('learn.fast = 1', ['must be bool, not 1 (int)']),
    ('learn.widths = [1, 2]', ['must be tuple[int, ...], not [1, 2] (list)']),
    ('learn.scales = {"a": "b"}', ['must be dict[str, float] | None']),
    ('learn.part = 3', ['not 3 (int)']),
    ('A = {[1]: 2}', ['unhashable']),
    ('import dv3.no_such', ["No module named 'dv3.no_such'"]),
    ('learn.name = @balancer.fake.sum', [
        'must be str, not @balancer.fake.sum (a reference)']),
    ('balancer.fake.other.factor = 3', [
        'nothing uses balancer.fake.other.factor, because balancer.fake.sum is '
        'chosen (fakes.learn.part); choose @balancer.fake.other there']),
    ('logger.fake.lines.width = 3', [
        'nothing uses logger.fake.lines.width, because nothing refers to it']),
    ('high/normalizer.fake.range.low = 3.0', [
        "normalizer.fake.range is used in the scope 'low' only"]),
    ('learn.logdir = "x"', [
        'nothing uses fakes.learn.logdir, because the library itself passes']),
    ('learn.name = mine', ["'mine' is no value; a string needs quotes"]),
    ('learn.name', ["Couldn't parse statement"]),
    ('A = %A', ['nothing uses A']),
    ('learn.env_steps = %gin.REQUIRED', [
        "nobody chose fakes.learn.env_steps: give --gin_param="]),
    ("include 'nowhere.gin'", ['there is no gin file nowhere.gin']),
    ('import no_such_thing_at_all', [
        'plugin no_such_thing_at_all: there is no module']),
    ('from __gin__ import dynamic_registration', ['is not supported']),
])
def test_mistakes_of_users_in_one_line(param, parts):
  text = refused('preset/grid.gin', params=[param])
  for part in parts:
    assert part in text, text
  assert text.startswith('--gin_param=') or 'nobody chose' in text


def test_wrong_type_through_a_macro_names_both_places():
  text = refused('preset/grid.gin', params=['STEPS = 1e6'])
  assert text == (
      "base.gin:6 with %STEPS in --gin_param='STEPS = 1e6': "
      'fakes.learn.env_steps must be int, not 1000000.0 (float)')


def test_int_is_a_float_and_the_library_passes_its_own():
  parse('preset/grid.gin', params=[
      'learn.rate = 1', 'learn.writers = (@logger.fake.lines,)'])
  assert learn(logdir='here')['writers'][0].logdir == 'here'
  text = refused('preset/grid.gin', params=[
      'learn.writers = (@logger.fake.lines,)',
      'logger.fake.lines.logdir = "x"'])
  assert 'because the library itself passes it; remove the line' in text


def test_place_of_a_mistake_in_a_file():
  path = write('mine.gin', "# first\n\nlearn.nam = 'x'\n")
  assert refused('preset/grid.gin', path).startswith(
      f"{path}:3: fakes.learn has no argument 'nam'; did you mean name?")
  path = write('mine.gin', 'learn.name = = 3\n')
  assert refused('preset/grid.gin', path).startswith(f'{path}:1: ')
  path = write('mine.gin', 'learn.widths = (1,\n')
  assert refused('preset/grid.gin', path).startswith(f'{path}:')


def test_missing_choices_name_the_files_that_make_them():
  assert refused('base.gin') == (
      'nobody chose WIDTH: give a size, for example --gin_file=size/1m.gin '
      '(size/1m.gin, size/12m.gin); nobody chose STEPS: give a task, for '
      'example --gin_file=task/grid.gin (task/grid.gin)')
  assert 'nobody chose STEPS' in refused('base.gin', 'size/1m.gin')


def test_remedies_are_files_that_make_all_the_missing_choices(tmp_path):
  shipped = tmp_path / 'shipped'
  write(shipped / 'base.gin', """
      WIDTH = %gin.REQUIRED
      LAYERS = %gin.REQUIRED
      learn.widths = (%WIDTH, %LAYERS)
      """)
  write(shipped / 'full.gin', 'LAYERS = 3\n')  # Another base.
  write(shipped / 'size/old_1m.gin', 'WIDTH = 8\nLAYERS = 2\n')
  write(shipped / 'size/wide_1m.gin', 'WIDTH = 8\nLAYERS = 2\nOTHER = 2\n')
  write(shipped / 'variant/deep.gin', 'WIDTH = 9\nLAYERS = 9\n')
  remedy = (
      ': give a size, for example --gin_file=size/old_1m.gin '
      '(size/old_1m.gin)')
  assert refused('base.gin') == f'nobody chose WIDTH, LAYERS{remedy}'
  # Those of the other form bind it too, beside what this base has not.
  assert refused('base.gin', params=['WIDTH = 3']) == (
      f'nobody chose LAYERS{remedy}')


def test_remedies_where_no_file_makes_all_the_missing_choices(tmp_path):
  base = SHIPPED['base.gin'].replace('RATIO = 32', 'RATIO = %gin.REQUIRED')
  write(tmp_path / 'shipped/base.gin', base)
  write(tmp_path / 'shipped/size/rate.gin', 'RATIO = 2\n')
  assert refused(
      'base.gin', 'task/grid.gin', params=['learn.fast = %gin.REQUIRED']) == (
          'nobody chose WIDTH: give a size, for example --gin_file=size/1m.gin '
          '(size/1m.gin, size/12m.gin); nobody chose RATIO: give a size, for '
          'example --gin_file=size/rate.gin (size/rate.gin); nobody chose '
          "fakes.learn.fast: give --gin_param='fakes.learn.fast = ...'")


def test_size_before_base():
  assert refused('size/1m.gin', 'base.gin', 'task/grid.gin') == (
      'WIDTH, given in size/1m.gin:1, is declared again by base.gin:2; give '
      'the base file first, then size, task, variant, dist')


def test_size_before_a_preset_that_gives_another():
  # Silently the preset's own would win.
  assert 'WIDTH, given in size/12m.gin:1, is declared again by base.gin:2' in (
      refused('size/12m.gin', 'preset/grid.gin'))


@pytest.mark.parametrize('text, name', [
    ('learn.part = @balancer.fake.other', 'fakes.learn.part'),
    ('RATIO = 3', 'RATIO')])
def test_what_a_base_after_it_would_undo(text, name):
  # A variant, or a file of the user's, of which nothing would be left.
  path = write('mine.gin', text + '\n')
  assert refused(path, 'preset/grid.gin').startswith(
      f'{name}, given in {path}:1, is set again by base.gin:')
  assert 'give the base file first' in refused(path, 'preset/grid.gin')
  if name != 'RATIO':
    parse('preset/grid.gin', path)
    variant = 'variant/other.gin'
    assert f'{variant}:' in refused(variant, 'preset/grid.gin')


def test_a_mark_of_windows_editors_is_skipped():
  parse(write('mark.gin', "\ufeffinclude 'preset/grid.gin'\n"))


def test_macro_of_itself():
  assert 'the macro WIDTH refers to itself' in refused(
      'preset/grid.gin', params=['WIDTH = %WIDTH'])


def test_shipped_bindings_that_a_variant_replaced_are_listed():
  result = parse('preset/grid.gin', 'variant/other.gin')
  assert result.unused == (
      'balancer.fake.sum.factor (base.gin:9)',
      'balancer.fake.sum.inner (base.gin:10)',
      'low/normalizer.fake.range.low (base.gin:11)',
      'normalizer.fake.range.rate (base.gin:12)')
  text = refused(
      'preset/grid.gin', 'variant/other.gin',
      params=['normalizer.fake.range.rate = 3.0'])
  assert 'nothing uses normalizer.fake.range.rate' in text


def test_unused_bindings_of_a_users_file_are_refused():
  path = write('mine.gin', 'balancer.fake.other.factor = 3\nUNSEEN = 3\n')
  text = refused('preset/grid.gin', path)
  assert f'{path}:1: nothing uses balancer.fake.other.factor' in text
  assert f'{path}:2: nothing uses UNSEEN' in text
  parse('preset/grid.gin', 'variant/other.gin',
        params=['balancer.fake.other.factor = 3'])
  assert learn()['part'].factor == 3


def test_a_flag_that_replaces_a_users_macro_is_no_mistake():
  path = write('mine.gin', 'STEPS = 3\n')
  parse('preset/grid.gin', path, params=['learn.env_steps = 7'])
  assert learn()['env_steps'] == 7
  other = write('other.gin', 'learn.env_steps = 7\n')
  assert f'{path}:1: nothing uses STEPS' in refused(
      'preset/grid.gin', path, other)


def test_round_trip_through_a_run_directory(tmp_path):
  logdir = str(tmp_path / 'run')
  first = parse('preset/grid.gin', params=[
      "learn.scales = {'a': 1, 'b': 2.5}", 'low/normalizer.fake.range.rate = 1',
      "learn.name = 'it''s'", 'learn.rate = 1e-20'])
  before = learn()
  first.save(logdir)
  gin.clear_config()
  again = load(logdir)
  assert again.text == first.text
  assert again.sources == first.sources
  assert again.bindings.parameters.keys() == first.bindings.parameters.keys()
  after = learn()
  assert {k: before[k] for k in ('env_steps', 'rate', 'name', 'scales')} == {
      k: after[k] for k in ('env_steps', 'rate', 'name', 'scales')}
  assert after['part'].inner.rate == 1
  again.save(logdir)
  assert load(logdir, params=['STEPS = 3']).text == first.text.replace(
      'STEPS = 100', 'STEPS = 3')
  assert 'nothing uses STEP;' in refused(
      logdir, params=['STEP = 3'], action=load)


def test_saved_names_are_full_and_gin_reads_them(tmp_path):
  parse('preset/grid.gin').save(str(tmp_path))
  text = (tmp_path / 'config.gin').read_text()
  assert 'fakes.learn.env_steps = %STEPS\n' in text
  assert 'low/normalizer.fake.range.low = -1.5\n' in text
  assert 'include' not in text.replace('includes', '')
  gin.clear_config()
  gin.parse_config(text)
  assert learn()['env_steps'] == 100


def test_unused_shipped_bindings_survive_the_round_trip(tmp_path):
  first = parse('preset/grid.gin', 'variant/other.gin')
  first.save(str(tmp_path))
  assert load(str(tmp_path)).text == first.text


def test_the_file_of_a_run_may_be_given_as_a_configuration(tmp_path):
  first = parse('preset/grid.gin', 'variant/other.gin', params=['STEPS = 3'])
  first.save(str(tmp_path / 'run'))
  path = str(tmp_path / 'run' / 'config.gin')
  # It holds what the run did not use; nobody is blamed for that.
  assert parse(path).text == first.text
  assert parse(write('mine.gin', f"include '{path}'\n")).text == first.text
  assert parse(path, 'size/12m.gin', params=['STEPS = 4']).text == (
      first.text.replace('WIDTH = 8', 'WIDTH = 96').replace(
          'STEPS = 3', 'STEPS = 4'))
  for line in ('import json', "include 'base.gin'"):
    write(path, f'{first.file_text()}{line}\n')
    assert 'imports and includes are refused in a run directory' in refused(
        path)
  header = first.file_text().replace('"plugins": [', '"plugins": ["gone", ')
  write(path, header)
  assert 'give them again: --plugin=gone' in refused(path)


def test_a_run_directory_executes_nothing(tmp_path):
  path = tmp_path / 'config.gin'
  parse('preset/grid.gin').save(str(tmp_path))
  text = path.read_text()
  for line in ('import json', "include 'base.gin'"):
    path.write_text(f'{text}{line}\n')
    assert 'imports and includes are refused in a run directory' in refused(
        str(tmp_path), action=load)
  assert 'is no run directory' in refused(
      str(tmp_path / 'absent'), action=load)
  path.write_text(text.replace('"sources"', 'sources'))
  assert 'is damaged' in refused(str(tmp_path), action=load)


def test_plugins_are_recorded_and_asked_for_again(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  write(tmp_path / 'acme_config.py', """
      import dv3
      import config_fakes_of_acme

      @dv3.register('balancer', 'acme.double')
      class Double(config_fakes_of_acme.Base):
        def __call__(self, means):
          return 2 * sum(means.values()), {}
      """)
  write(tmp_path / 'config_fakes_of_acme.py', """
      from dv3 import interfaces

      class Base(interfaces.Balancer):
        pass
      """)
  path = write('mine.gin', """
      import acme_config
      learn.part = @balancer.acme.double
      """)
  result = parse('preset/grid.gin', path)
  assert result.plugins[-1] == 'acme_config'
  assert learn()['part']({'a': 1}) == (2, {})
  result.save(str(tmp_path / 'run'))
  assert 'import acme_config' not in (
      tmp_path / 'run' / 'config.gin').read_text()
  del plugins._loaded['acme_config']
  text = refused(str(tmp_path / 'run'), action=load)
  assert 'give them again: --plugin=acme_config' in text
  load(str(tmp_path / 'run'), plugins=['acme_config'])


@pytest.fixture(name='env_slot')
def use_env_slot(monkeypatch):
  """`learn.world` as an argument whose component dv3 itself calls."""
  monkeypatch.setitem(checks.SLOTS, 'fakes.learn', {'world': 'env'})


@pytest.mark.usefixtures('env_slot')
def test_an_argument_that_must_be_bound():
  text = refused(params=['learn.world = @env.fake.grid'])
  assert text == (
      'nothing binds env.fake.grid.size, which has no default; bind it: '
      "--gin_param='env.fake.grid.size = ...'")


@pytest.mark.parametrize('reference, scope', [
    ('env.fake.grid', ''), ('here/env.fake.grid', 'here/'),
    ('here/env.fake.grid', '')])
@pytest.mark.usefixtures('env_slot')
def test_an_argument_that_is_bound(reference, scope):
  parse(params=[
      f'learn.world = @{reference}', f'{scope}env.fake.grid.size = 3'])
  assert learn()['world'].kwargs == {'size': 3}


def test_what_the_users_own_code_calls_may_be_given_arguments():
  parse(params=['learn.world = @env.fake.grid'])


def test_operative_configuration(tmp_path):
  parse('preset/grid.gin', 'variant/other.gin')
  config.save_operative(str(tmp_path))
  assert (tmp_path / 'operative_config.gin').read_text().strip() == ''
  learn()
  config.save_operative(str(tmp_path))
  text = (tmp_path / 'operative_config.gin').read_text()
  assert 'balancer.fake.other.factor = 1.0\n' in text  # A default.
  assert 'fakes.learn.env_steps = %STEPS\n' in text
  assert 'STEPS = 100\n' in text
  assert 'fake.range' not in text
  gin.clear_config()
  gin.parse_config(text)
  assert learn()['env_steps'] == 100


def test_a_folder_that_cannot_be_written(tmp_path):
  result = parse('preset/grid.gin')
  (tmp_path / 'file').write_text('')
  assert 'config.gin cannot be written: ' in refused(
      str(tmp_path / 'file'), action=result.save)


@pytest.fixture(name='shipped')
def use_shipped(monkeypatch):
  """The files that dv3 ships, and its own injection points."""
  monkeypatch.setattr(files, 'shipped_folder', lambda: SHIPPED_FOLDER)


CARTPOLE = ('dreamerv3.gin', 'size/1m.gin', 'task/cartpole.gin')
BEGIN = (
    'begin with a base, --gin_file=dreamerv3.gin, or a preset, '
    '--gin_file=preset/quickstart.gin')


@pytest.mark.usefixtures('shipped')
@pytest.mark.parametrize('params, roots, expected', [
    (['train.batch_size = 3'], None,
     'nothing binds train.agent, train.env, train.collector, '
     'train.optimizers, train.env_steps, train.replayed_steps_per_env_step'),
    (['evaluate.likeliest = True'], ['dv3.evaluate', 'dv3.train'],
     'nothing binds evaluate.agent, evaluate.env, evaluate.collector'),
    # The first root is the one that will be called.
    (['evaluate.agent = @Agent', 'evaluate.env = @env.gymnasium',
      'evaluate.collector = @collector.local'], None,
     'nothing binds train.agent, train.env, train.collector, '
     'train.optimizers, train.env_steps, train.replayed_steps_per_env_step'),
    (['x/train.env = @env.gymnasium'], None,
     'nothing is bound to train or evaluate')])
def test_no_base_but_single_bindings(params, roots, expected):
  options = {'roots': roots} if roots else {}
  with pytest.raises(errors.UserError) as caught:
    config.parse([], params, **options)
  assert str(caught.value).startswith(f'{expected}; {BEGIN}')


@pytest.mark.usefixtures('shipped')
@pytest.mark.parametrize('base, size', [
    ('dreamerv3.gin', 'size/1m.gin (size/1m.gin, '),
    ('dreamerv3_v1.gin', 'size/v1_')])
def test_a_missing_size_is_one_of_the_base(base, size):
  with pytest.raises(errors.UserError) as caught:
    config.parse([base, 'task/cartpole.gin'])
  text = str(caught.value)
  assert f'give a size, for example --gin_file={size}' in text
  assert text.count('nobody chose') == 1
  assert text.count('size/v1_') == (0 if base == 'dreamerv3.gin' else 10)


@pytest.mark.usefixtures('shipped')
@pytest.mark.parametrize('param, expected', [
    ('Agent.core = @core.rssm()',
     "dv3.Agent.core takes @core.rssm without (): the library calls it"),
    ('train.agent = @Agent()',
     "dv3.train.agent takes @dv3.Agent without (): the library calls it"),
    ('train.collector = @loss.kl',
     'dv3.train.collector takes a component of kind collector, not @loss.kl; '
     '`dv3-components list collector` shows them'),
    ('train.exploration = 0.3',
     'dv3.train.exploration takes a component of kind exploration, not 0.3; '
     '`dv3-components list exploration` shows them'),
    ('train.replayed_steps_per_env_step = 1e999',
     'dv3.train.replayed_steps_per_env_step is inf; give finite numbers'),
    ('balancer.fixed.scales = {"reward": 1e999}', 'give finite numbers'),
    ('train.agent = @core.rssm',
     'dv3.train.agent takes @dv3.Agent, not @core.rssm, which would get none '
     'of the numbers and parts that are bound to Agent; swap its parts'),
    ('Agent.core = @Agent',
     'dv3.Agent.core takes a component of kind core, not @dv3.Agent'),
    ('Agent.losses = (@loss.kl, @head.binary)',
     'dv3.Agent.losses takes components of kind loss, not @head.binary'),
    ('train.loggers = (@logger.jsonl, "terminal")',
     "dv3.train.loggers takes components of kind logger, not 'terminal'"),
    ('train.transforms = (@env.gymnasium,)',
     'dv3.train.transforms takes components of kind transform'),
    ('encoder.dict.vector = @decoder.mlp',
     'encoder.dict.vector takes a component of kind encoder'),
    ('loss.actor_reinforce.normalizer = @sampler.uniform',
     'takes a component of kind normalizer'),
    ('Agent.actor = @head.binary',
     'dv3.Agent.actor takes a head of actions, such as @head.actor, not '
     '@head.binary, which has no argument action_spec'),
    ('Agent.reward = @head.actor',
     'dv3.Agent.reward takes a head of features alone, not @head.actor, which '
     'needs action_spec'),
    ('evaluate.env = @collector.local',
     'dv3.evaluate.env takes a component of kind env'),
    ('train.optimizers = (("all", ("*",), @loss.kl),)',
     'dv3.train.optimizers takes components of kind optimizer, not @loss.kl'),
    ('train.optimizers = (("all", ("*",), @optimizer.laprop()),)',
     'dv3.train.optimizers takes @optimizer.laprop without ()'),
    ('train.optimizers = ()',
     'dv3.train.optimizers has no group, so that nothing would be trained'),
    ('train.optimizers = ("all", ("*",), @optimizer.laprop)',
     "dv3.train.optimizers has 'all' for a group; write each as (name, parts, "
     "optimizer), and all in one tuple: (('agent', ('*',), "
     '@optimizer.laprop),)'),
    ('train.optimizers = (("all", ("*",), "adam"),)',
     "dv3.train.optimizers takes components of kind optimizer, not 'adam'")])
def test_references_that_do_not_fit_their_place(param, expected):
  with pytest.raises(errors.UserError) as caught:
    config.parse(CARTPOLE, [param])
  assert str(caught.value).startswith(f'--gin_param={param!r}: ')
  assert expected in str(caught.value)


@pytest.mark.usefixtures('shipped')
def test_a_wrong_reference_in_a_macro_is_told_with_both_places(tmp_path):
  path = write(tmp_path / 'mine.gin', '# Mine.\nTASK = @core.rssm\n')
  with pytest.raises(errors.UserError) as caught:
    config.parse([*CARTPOLE, path])
  assert re.match(
      rf'dreamerv3.gin:\d+ with %TASK in {re.escape(path)}:2: dv3.train.env '
      'takes a component of kind env, not @core.rssm', str(caught.value))


@pytest.mark.usefixtures('shipped')
def test_a_users_own_function_fits_everywhere_but_for_the_agent():
  config.parse(CARTPOLE, ['Agent.core = @learn()'])
  config.parse(CARTPOLE, ['train.optimizers = @learn()'])
  config.parse(CARTPOLE, [
      'train.optimizers = (@learn(), ["all", ("*",), @learn])'])
  # Scopes and components of third parties are as good.
  config.parse(CARTPOLE, ['Agent.balancer = @mine/balancer.fake.sum'])
  with pytest.raises(errors.UserError, match='bound to Agent'):
    config.parse(CARTPOLE, ['train.agent = @learn'])


def _takes_factories(selector):
  """Returns the arguments that take factories of the user's choice."""
  hints = signatures.hints(names.factory(names.full_name(selector)))
  return {
      name for name, hint in hints.items()
      if 'Callable' in str(hint) and name != 'return'
      and not names.is_given(selector, name)}


def test_the_table_of_slots_is_the_librarys():
  # `train` takes some in tuples that hold other things too.
  tuples = {'transforms', 'loggers', 'optimizers'}
  for selector in {*checks.SLOTS, *registry.TABLE}:
    extra = tuples if selector == 'dv3.train' else set()
    assert _takes_factories(selector) | extra == set(
        checks.SLOTS.get(selector, ())), selector
