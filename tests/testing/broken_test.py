"""The conformance suite catches components that break their contract."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from dv3.testing import plugin

FOLDER = pathlib.Path(__file__).parent
PLUGINS = 'breaking_parts.py', 'keeping_parts.py'
# What keeps the contract in another way than the library, and the checks that
# may not mind; 'core:test.fine' is asked all.
KEEPING = {
    'core:test.fine': '',
    'core:test.own_keys': 'steps',
    'core:test.memory': 'replay_round_trip starts resets',
    'core:test.passes_on': 'shapes used_unbuilt',
    'head:test.bernoulli': 'shapes gradients',
    'head:test.mixture': 'shapes gradients bfloat16',
    'head:test.squashed': 'shapes compiled',
    'encoder:test.counting': 'shapes checkpoint',
    'encoder:test.plain': 'shapes gradients',
    'loss:test.next': '', 'loss:test.float_metric': 'unreduced',
    'balancer:test.leaves_out': '', 'optimizer:test.keras': '',
    'optimizer:test.decays': '', 'transform:test.action_cost': ''}

# What each component must be told, and by which check.
CAUGHT = [
    ('core:test.forgets_resets', 'resets_forget'),
    ('core:test.multiplies', 'resets_forget'),
    ('core:test.two_ways', 'steps_equal_sequences'),
    ('head:test.idle_weight', 'gradients_reach_every_variable'),
    ('head:test.late_weight', 'compiled_equals_eager'),
    ('normalizer:test.own_statistics', 'two_replicas_stay_equal'),
    ('loss:test.stops', 'loss_trains'),
    ('loss:test.idle_variable', 'loss_trains'),
    ('loss:test.late_variable', 'loss_calls_repeat'),
    ('loss:test.noise', 'loss_calls_repeat'),
    ('loss:test.too_long', 'loss_is_unreduced'),
    ('loss:test.not_saved', 'loss_checkpoint_round_trip'),
    ('balancer:test.late_variable', 'balancer_calls_repeat'),
    ('balancer:test.idle_variable', 'balancer_trains_its_variables'),
    ('optimizer:test.counting', 'optimizer_steps_repeat'),
    ('optimizer:test.counting', 'optimizer_checkpoint_round_trip'),
    ('core:test.time_major', 'starts_are_the_latents'),
    ('core:test.same_noise', 'steps_draw_anew'),
    ('core:test.timeless', 'steps_draw_anew'),
    ('core:test.zero_state', 'replay_round_trip'),
    ('decoder:test.traced_pictures', 'compiled_equals_eager'),
    ('head:test.soft_press', 'shapes_and_dtypes'),
    ('env:test.raises', 'env_keeps_gymnasiums_contract'),
    ('encoder:test.lazy_image', 'shapes_and_dtypes'),
    ('encoder:test.two_axes', 'shapes_and_dtypes'),
    ('decoder:test.pictures', 'shapes_and_dtypes'),
    ('head:test.extra_axis', 'shapes_and_dtypes'),
    ('normalizer:test.python_state', 'normalizer_tracks'),
    ('loss:test.scalar', 'loss_is_unreduced'),
    ('balancer:test.linear_lie', 'balancer_sums_to_a_scalar'),
    ('sampler:test.no_modulo', 'sampler_draws_what_is_stored'),
    ('transform:test.not_saved', 'transform_loses_no_step')]


@pytest.fixture(name='run', scope='module')
def make_run(tmp_path_factory):
  """Every check of what keeps the contract, of the rest the one above."""
  folder = tmp_path_factory.mktemp('conformance')
  # As strict a repository as there is.
  (folder / 'pytest.ini').write_text(
      '[pytest]\nfilterwarnings = error\npython_functions = check_*\n')
  components = (*dict.fromkeys(x for x, _ in CAUGHT), *KEEPING)
  checks = ' or '.join((
      *(f'{x}-{check}' for x, check in CAUGHT),
      *(f'({x} and ({" or ".join(words.split()) or x}))'
        for x, words in KEEPING.items())))
  result = subprocess.run(
      [sys.executable, '-m', 'pytest', '-v', '-p', 'no:cacheprovider',
       *(f'--dv3-plugin={FOLDER / x}' for x in PLUGINS), '--tb=no',
       '-k', checks,
       *(f'--dv3-component={x}' for x in components)],
      cwd=folder, env={**os.environ, 'COLUMNS': '300'}, capture_output=True,
      text=True, check=False, timeout=600)
  return result.stdout


@pytest.mark.parametrize('component, check', CAUGHT)
def test_broken_components_are_caught(run, component, check):
  assert f'{component}-{check}] - ' in run, run[-3000:]


@pytest.mark.parametrize('component', KEEPING)
def test_a_component_that_keeps_the_contract_passes(run, component):
  lines = [x for x in run.splitlines() if f'[{component}-' in x]
  assert not any('FAILED' in x for x in lines), lines
  assert any('PASSED' in x for x in lines), run[-3000:]


@pytest.mark.parametrize('flags, words', [
    ({'component': 'core.rssm'}, 'not KIND:NAME'),
    ({'component': 'core:rsm'}, 'did you mean rssm'),
    ({'component': 'cores:rssm'}, 'did you mean core'),
    ({'kwargs': '{unitz: 3}'}, '--dv3-kwargs={unitz: 3} is no JSON'),
    ({'kwargs': '3'}, 'names no arguments'),
    ({'plugin': 'gone.py'}, 'no such file'),
    ({'kwargs': '{"unitz": 3}'}, 'core.rssm does not take unitz'),
    ({'component': 'env:gymnasium'}, 'env.gymnasium needs id')])
def test_flags_that_are_wrong_are_told(flags, words):
  given = {
      '--dv3-component': [flags.get('component', 'core:rssm')],
      '--dv3-plugin': [flags['plugin']] if 'plugin' in flags else [],
      '--dv3-kwargs': flags.get('kwargs', '{}')}
  with pytest.raises(pytest.UsageError, match=re.escape(words)):
    plugin._cases(given.get)


@pytest.mark.parametrize('flags, words', [
    (['--dv3-component=core:rsm'], 'did you mean rssm?'),
    (['--dv3-plugin=some.py'], 'give that too')])
def test_what_is_told_is_one_line(flags, words):
  done = subprocess.run(
      [sys.executable, '-m', 'pytest', *flags],
      capture_output=True, text=True, env={
          **os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'})
  assert done.returncode == 4, done.stdout
  lines = [x for x in done.stderr.splitlines() if x.startswith('ERROR:')]
  assert len(lines) == 1 and words in lines[0], done.stderr
  assert 'Traceback' not in done.stderr
