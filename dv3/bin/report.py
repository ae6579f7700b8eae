"""dv3-report: learning curves, a summary and a page about runs.

  dv3-report --logdir=runs/cartpole_0 --logdir=runs/cartpole_1
  dv3-report --logdir=runs --output=curves.png --reference=published.json.gz
"""

import logging
import os

from absl import flags

from dv3 import errors
from dv3 import registry
from dv3.bin import app

FLAGS = flags.FLAGS
_OUTPUT = flags.DEFINE_string(
    'output', None, 'The .html page or .png picture to write; report.html in '
    'the first --logdir by default.')
_REFERENCE = flags.DEFINE_string(
    'reference', None, 'Published scores to draw along: JSON or .json.gz, a '
    'list of {task, method, seed, xs (frames), ys (scores)}.')
_REFERENCE_TASK = flags.DEFINE_multi_string(
    'reference_task', [], "Names in --reference, 'CartPole-v1=cartpole': our "
    'task, then theirs; repeatable. Equal names need none.')
_ACTION_REPEAT = flags.DEFINE_integer(
    'action_repeat', 1, 'Frames an env step in --reference.', lower_bound=1)


def main(argv):
  """Reports on the runs in every --logdir."""
  del argv
  app.refuse_flags(
      'gin_file', 'gin_param', 'seed',
      because='a report shows what runs wrote, and --logdir names them; leave '
      'the rest out')
  registry.load_plugins(FLAGS.plugin)  # As on every binary.
  if not FLAGS.logdir:
    raise errors.UserError(
        'no run was named; give --logdir=runs/<name>, more than once for '
        'several')
  output = _OUTPUT.value or os.path.join(FLAGS.logdir[0], 'report.html')
  if not output.endswith(('.html', '.png')):
    raise errors.UserError(
        f'--output={output} must end with .html (a page) or .png (curves)')
  # Where it keeps its font cache, matplotlib tells on first use.
  logging.getLogger('matplotlib').setLevel(logging.ERROR)
  from dv3.loggers import files
  from dv3.report import curves
  from dv3.report import drawing
  from dv3.report import page
  from dv3.report import runs as runs_lib
  runs = runs_lib.find(FLAGS.logdir)
  groups = curves.group(runs)
  table = curves.table(curves.summarize(groups))
  print(align(table))
  tasks = {
      task: [
          curves.curve(label, [(run.steps, run.scores) for run in members])
          for label, members in variants.items()]
      for task, variants in groups.items()}
  picture = drawing.draw(tasks, _references(list(tasks)))
  if output.endswith('.png'):
    files.write_whole(output, picture)
  else:
    title = f'dv3: {", ".join(groups)}'
    files.write_whole(
        output, page.render(title, table, picture, runs).encode())
  print(f'wrote {os.path.abspath(output)}')


def _references(tasks):
  """Returns {our task: published curves} of the tasks that --reference has."""
  if not _REFERENCE.value:
    if _REFERENCE_TASK.value or FLAGS['action_repeat'].present:
      raise errors.UserError(
          '--reference_task and --action_repeat say how to read published '
          'curves; name their file with --reference')
    return {}
  from dv3 import nearest
  from dv3.report import curves
  published = curves.read_reference(_REFERENCE.value, _ACTION_REPEAT.value)
  theirs = {task: task for task in tasks}
  for pair in _REFERENCE_TASK.value:
    task, _, name = pair.rpartition('=')
    if task not in tasks:
      raise errors.UserError(
          f'--reference_task={pair}: no run plays {task!r}; '
          f'{nearest.hint(task, tasks, "tasks of the runs")}')
    if name not in published:
      raise errors.UserError(
          f'--reference_task={pair}: {_REFERENCE.value} has no {name!r}; '
          f'{nearest.hint(name, published, "its tasks")}')
    theirs[task] = name
  found = {
      task: published[name] for task, name in theirs.items()
      if name in published}
  if not found:
    raise errors.UserError(
        f"{_REFERENCE.value} has none of {tasks}; give --reference_task="
        f"'{tasks[0]}=...' with one of its tasks: {', '.join(published)}")
  return found


def align(table: list[list[str]]) -> str:
  """Returns lines of cells as text in columns."""
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  return '\n'.join(
      '  '.join(cell.ljust(width) for cell, width in zip(
          line, widths, strict=True)).rstrip() for line in table)


def run():
  """The console script."""
  # Only this binary takes several; to define it on import would change the
  # flag for the other binaries in the same process, in tests for example.
  flags.DEFINE_multi_string(
      'logdir', [], 'A run directory, or a folder of them; repeatable.',
      allow_override=True)
  app.run(main)


if __name__ == '__main__':
  run()
