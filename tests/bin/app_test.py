"""Flags and errors of the binaries, each in a process of its own."""

import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
    '''A program for tests.'''
    import sys
    from absl import flags
    from dv3 import errors
    from dv3.bin import app

    def main(argv):
      {body}

    if __name__ == '__main__':
      app.run(main{options})
    """


@pytest.fixture(name='program')
def make_program(tmp_path):
  def program(body, options=''):
    path = tmp_path / 'prog.py'
    path.write_text(textwrap.dedent(PROGRAM).format(
        body=textwrap.dedent(body).replace('\n', '\n  '), options=options))
    return str(path)
  return program


@pytest.fixture(name='run')
def make_run(program, tmp_path):
  def run(*arguments, body='print(argv[1:])', options=''):
    return subprocess.run(
        [sys.executable, program(body, options), *arguments], text=True,
        capture_output=True, cwd=tmp_path, env={'PYTHONPATH': str(ROOT)})
  return run


def test_shared_flags(run):
  done = run(
      '--gin_file=a', '--gin_file=b', '--gin_param=x = 1', '--plugin=p',
      '--logdir=here', '--seed=3', body="""
      f = flags.FLAGS
      print(f.gin_file, f.gin_param, f.plugin, f.logdir, f.seed, f.debug)""")
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout == "['a', 'b'] ['x = 1'] ['p'] here 3 False\n"


def test_a_home_is_found_in_paths(run):
  done = run('--logdir=~/runs/x', body='print(flags.FLAGS.logdir)')
  assert done.stdout.startswith('/'), done.stderr
  assert done.stdout.endswith('/runs/x\n') and '~' not in done.stdout


def test_it_runs_with_stderr_closed(program, tmp_path):
  done = subprocess.run(
      ['sh', '-c', f'{sys.executable} {program("import tensorflow; print(1)")} '
       '2>&-'], text=True, capture_output=True, cwd=tmp_path,
      env={'PYTHONPATH': str(ROOT)})
  assert (done.returncode, done.stdout) == (0, '1\n')


@pytest.mark.parametrize('arguments, expected', [
    (['--seed=-1'], 'flag --seed=-1: -1 is not an integer in the range [0, '
                    '9223372036854775807]; see dv3-prog --help'),
    (['--gin_fil=a'], "Unknown command line flag 'gin_fil'. Did you mean: "
                      'gin_file ?; see dv3-prog --help'),
    (['--seed=many'], "flag --seed=many: invalid literal for int() with base "
                      "10: 'many'; see dv3-prog --help"),
    (['preset/x.gin'], "unexpected argument 'preset/x.gin'; every setting is a "
                       'flag, for example --gin_file=preset/x.gin'),
])
def test_wrong_flags_are_one_line(run, arguments, expected):
  done = run(*arguments)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr == f'dv3-prog: {expected}\n'


def test_positional_arguments_where_they_are_wanted(run):
  assert run('a', 'b', options=', positional=True').stdout == "['a', 'b']\n"


def test_user_error_is_one_line(run):
  body = "raise errors.UserError('a cause;\\n a remedy')"
  done = run(body=body)
  assert (done.returncode, done.stderr) == (2, 'dv3-prog: a cause; a remedy\n')
  done = run('--debug', body=body)
  assert done.returncode == 2
  assert 'Traceback' in done.stderr
  assert done.stderr.endswith('\ndv3-prog: a cause; a remedy\n')


def test_user_error_inside_a_gin_call_stays_one_line(run):
  done = run(body="""
      import gin
      @gin.register('inner', module='test')
      def inner():
        raise errors.UserError('a cause; a remedy')
      @gin.register('outer', module='test')
      def outer(part):
        part()
      gin.parse_config('outer.part = @inner')
      gin.get_configurable('outer')()""")
  assert (done.returncode, done.stderr) == (2, 'dv3-prog: a cause; a remedy\n')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_before_there_is_anything_to_save(program, number):
  path = program("""
      import time
      app.stop_at_signals()
      print("run directory: here", end=" ")  # Not flushed yet.
      print("ready", file=sys.stderr, flush=True)
      try:
        time.sleep(60)
      except BaseException:  # As an import may do.
        pass""")
  process = subprocess.Popen(
      [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      text=True, env={'PYTHONPATH': str(ROOT)})
  assert process.stderr.readline() == 'ready\n'
  process.send_signal(number)
  out, err = process.communicate(timeout=30)
  assert (process.returncode, err) == (0, '')
  assert out == (
      f'run directory: here stopped by {number.name}; there was nothing to '
      'save\n')


@pytest.mark.parametrize('binary, arguments, expected', [
    ('evaluate', [], 'dv3-eval: no run was named'),
    ('report', ['--gin_file=a', '--gin_param=b=1', '--seed=0'],
     'dv3-report: --gin_file, --gin_param, --seed would '
     'change nothing: a report shows what runs wrote'),
    ('components', ['list', '--gin_file=a', '--gin_param=b=1', '--seed=0',
                    '--logdir=c'],
     'dv3-components: --gin_file, --gin_param, --logdir, --seed would '
     'change nothing: components are shown without a configuration'),
    ('envcheck', ['--gin_file=a', '--logdir=b'], 'dv3-envcheck: --gin_file '
     'would change nothing: --logdir brings the configuration of its run'),
    ('envcheck', ['--gin_param=train.batch_size = 3'], 'dv3-envcheck: nothing '
     'binds train.agent, train.env,')])
def test_flags_without_use_are_refused(binary, arguments, expected):
  done = subprocess.run(
      [sys.executable, '-m', f'dv3.bin.{binary}', *arguments], text=True,
      capture_output=True, cwd=ROOT)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith(expected)
  assert done.stderr.count('\n') == 1


def test_full_disk_is_one_line(run):
  done = run(body="raise OSError(28, 'No space left on device', '/runs/x')")
  assert (done.returncode, done.stderr) == (
      2, 'dv3-prog: /runs/x: No space left on device; free space, or choose '
      'another --logdir\n')


def test_interrupt_is_one_line(run):
  done = run(body='raise KeyboardInterrupt')
  assert (done.returncode, done.stderr) == (130, 'dv3-prog: interrupted\n')


def test_bugs_keep_their_traceback(run):
  done = run(body='1 / 0')
  assert done.returncode == 1
  assert 'ZeroDivisionError' in done.stderr


def test_exit_code_of_main(run):
  assert run(body='return 2').returncode == 2


def test_help(run):
  done = run('--help')
  assert done.returncode == 0
  assert 'A program for tests.' in done.stdout
  for flag in ('gin_file', 'gin_param', 'plugin', 'logdir', 'seed', 'debug'):
    assert f'{flag}:' in done.stdout


def test_tensorflow_is_quiet_unless_debugging(run):
  body = 'import tensorflow; print(tensorflow.__name__)'
  done = run(body=body)
  assert (done.stdout, done.stderr) == ('tensorflow\n', '')


def test_tensorflow_says_nothing_while_it_saves(run, tmp_path):
  body = (
      'import tensorflow as tf; from absl import logging; '
      'logging.set_verbosity(logging.INFO); '
      f'tf.train.Checkpoint(x=tf.Variable(1.0)).write({str(tmp_path)!r} + "/x")'
      '; logging.info("our own")')
  lines = run(body=body).stderr.splitlines()
  assert len(lines) == 1 and lines[0].endswith('our own')


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'dv3' / 'bin').glob('*.py')), ids=lambda p: p.stem)
def test_binaries_do_not_import_tensorflow_at_module_level(path):
  source = (
      f'import sys, dv3.bin.{path.stem}; print("tensorflow" in sys.modules)')
  done = subprocess.run(
      [sys.executable, '-c', source], text=True, capture_output=True,
      cwd=ROOT)
  assert done.stdout == 'False\n', done.stderr
