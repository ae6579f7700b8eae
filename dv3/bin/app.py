"""What every binary shares: flags, and errors as one clear line.

  def main(argv): ...
  def run(): app.run(main)           # the console script

Nothing in `dv3/bin` imports TensorFlow at module level: spawned workers import
the main module again.
"""

import contextlib
import errno
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from collections.abc import Sequence
from typing import NoReturn

from absl import app as absl_app
from absl import flags

from dv3 import errors
from dv3.bin import quiet

FLAGS = flags.FLAGS

flags.DEFINE_multi_string(
    'gin_file', [],
    'Shipped name (preset/quickstart.gin) or path; repeatable, later ones win.')
flags.DEFINE_multi_string(
    'gin_param', [],
    "One binding, 'core.rssm.deter = 1024'; repeatable, wins over files.")
flags.DEFINE_multi_string(
    'plugin', [],
    'Module name or .py file with components of yours; repeatable.')
flags.DEFINE_string(
    'logdir', None, 'The run directory; dv3-train makes runs/<name of the last '
    '--gin_file> where none is given.')
flags.DEFINE_integer(
    'seed', None, 'Seed of the run or evaluation.', lower_bound=0,
    upper_bound=2 ** 63 - 1)
flags.DEFINE_boolean('debug', False, 'Show tracebacks and more of the log.')

ERROR_CODE = 2
"""Exit code of an error that the user can cause."""
_PATHS = ('logdir', 'output', 'video', 'reference')
_INTERRUPTED_CODE = 130  # What a shell reports after Ctrl-C.


def run(
    main: Callable, *, positional: bool = False, program: str | None = None
) -> None:
  """Runs a binary and exits.

  An error that the user can cause is one line on stderr with exit code 2, and
  a traceback only with --debug.

  Args:
    main: takes [program, *positional arguments], returns None or an exit code.
    positional: whether arguments that are no flags are allowed.
    program: the console script, where the module has another name.
  """
  program = program or os.path.basename(sys.argv[0])
  if program in ('__main__.py', '-m') or program.endswith('.py'):
    program = f'dv3-{os.path.splitext(program)[0]}'
  absl_app.run(
      functools.partial(_guarded, main, program),
      flags_parser=functools.partial(_parse, main, program, positional))


def refuse_flags(*names: str, because: str) -> None:
  """Refuses common flags that a binary has no use for.

  Args:
    names: of the flags.
    because: why, and what to do instead.

  Raises:
    UserError: if one was given.
  """
  given = ', '.join(f'--{name}' for name in names if FLAGS[name].present)
  if given:
    raise errors.UserError(f'{given} would change nothing: {because}')


def stop_at_signals() -> None:
  """Lets Ctrl-C and SIGTERM end the program with code 0 from now on.

  For a binary that saves at these signals, while it has nothing to save yet:
  imports take seconds. Call it in the main thread.
  """
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, _stop)


def _stop(number, frame) -> NoReturn:
  """Exits at once: an import might catch an exception."""
  del frame
  with contextlib.suppress(RuntimeError):  # It may be flushing already.
    sys.stdout.flush()
  name = signal.Signals(number).name
  os.write(1, f'stopped by {name}; there was nothing to save\n'.encode())
  os._exit(0)


def _parse(
    main: Callable, program: str, positional: bool, argv: Sequence[str]
) -> list[str]:
  """Parses flags; unknown and illegal ones end the program."""
  if '--help' in argv or '-h' in argv:
    _help(main)
  try:
    rest = FLAGS(argv)
  except flags.Error as error:
    _fail(program, f'{error}; see {program} --help')
  for name in _PATHS:  # Shells leave the ~ of --logdir=~/runs alone.
    value = FLAGS[name].value if name in FLAGS else None
    if value:
      FLAGS[name].value = os.path.expanduser(value) if isinstance(
          value, str) else [os.path.expanduser(x) for x in value]
  if len(rest) > 1 and not positional:
    _fail(
        program, f'unexpected argument {rest[1]!r}; every setting is a flag, '
        f'for example --gin_file={rest[1]}')
  if not FLAGS.debug:
    quiet.install()
  return rest


def _help(main: Callable) -> None:
  """Prints the binary's docstring and flags, and exits."""
  # absl would show the flags of one module, which for a console script is the
  # script, and exit with code 1.
  for module, defined in FLAGS.flags_by_module_dict().items():
    if module.startswith('dv3.bin.') or module == sys.argv[0]:
      for flag in defined:
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  print(f'{sys.modules[main.__module__].__doc__}\n{FLAGS.main_module_help()}')
  sys.exit(0)


def _guarded(main: Callable, program: str, argv: Sequence[str]):
  """Calls main; errors of the user's end the program with one line."""
  try:
    return main(argv)
  except errors.UserError as error:
    # gin adds lines about the call to an exception that passes through it.
    _fail(program, str(error).partition('\n')[0])
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    _fail(
        program, f'{error.filename or "the disk"}: {error.strerror}; free '
        'space, or choose another --logdir')
  except KeyboardInterrupt:
    print(f'{program}: interrupted', file=sys.stderr)
    sys.exit(_INTERRUPTED_CODE)


def _fail(program: str, message: str) -> NoReturn:
  """Prints one line and exits; called while an error is being handled."""
  if FLAGS.is_parsed() and FLAGS.debug:
    traceback.print_exc()
  print(f'{program}: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(ERROR_CODE)
