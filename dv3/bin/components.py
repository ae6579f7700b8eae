"""Lists and describes components.

  dv3-components list [kind] [--json]
  dv3-components describe core.rssm [--json]
"""

import json
from collections.abc import Sequence

from absl import flags

from dv3 import errors
from dv3 import nearest
from dv3 import registry
from dv3.bin import app

FLAGS = flags.FLAGS
_JSON = flags.DEFINE_boolean('json', False, 'Print one JSON document.')

_USAGE = (
    'say what: dv3-components list, list KIND, or describe KIND.NAME (for '
    'example describe core.rssm)')


def main(argv: Sequence[str]) -> None:
  """Runs the command in `argv`."""
  app.refuse_flags(
      'gin_file', 'gin_param', 'logdir', 'seed',
      because='components are shown without a configuration or run; leave the '
      'rest out, --plugin adds yours')
  registry.load_plugins(FLAGS.plugin)
  command, *arguments = argv[1:] or ['']
  if command == 'list' and len(arguments) <= 1:
    _list(arguments[0] if arguments else None)
  elif command == 'describe' and len(arguments) == 1:
    _describe(arguments[0])
  elif command in ('', 'list', 'describe'):
    raise errors.UserError(_USAGE)
  else:
    near = nearest.hint(command, ['list', 'describe'], 'commands')
    raise errors.UserError(f'there is no command {command!r}; {near}')


def _list(kind: str | None) -> None:
  """Prints the names of a kind, or of all kinds; imports no component."""
  kinds = [kind] if kind else registry.KINDS
  names = {kind: registry.names(kind) for kind in kinds}
  if _JSON.value:
    print(json.dumps(names))
    return
  for kind, members in names.items():
    for name in members:
      print(f'{kind}.{name}')


def _describe(key: str) -> None:
  """Prints signature, docstring, origin and gin files of a component."""
  kind, _, name = key.partition('.')
  if not name:
    raise errors.UserError(f'{key!r} is no component; {_USAGE}')
  description = registry.describe(kind, name)
  if _JSON.value:
    document = description._asdict()
    document['arguments'] = [a._asdict() for a in description.arguments]
    print(json.dumps(document))
    return
  print(f'{key}(')
  for argument in description.arguments:
    text = f'{argument.name}: {argument.type}' if argument.type else (
        argument.name)
    if argument.default is not None:
      text += f' = {argument.default}'
    note = '  # passed by the library' if argument.given else ''
    print(f'    {text},{note}')
  print(f')\n\n{description.doc or "No docstring."}\n')
  print(f'Origin: {description.origin}')
  gin_files = ', '.join(description.gin_files) or 'none'
  print(f'Shipped gin files that use it: {gin_files}')


def run() -> None:
  """Entry point of the console script."""
  app.run(main, positional=True)


if __name__ == '__main__':
  run()
