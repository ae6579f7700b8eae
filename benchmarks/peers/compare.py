"""Runs updates of dv3 and of a peer in turn, and prints ratios.

  python benchmarks/peers/compare.py --peer=sheeprl --case=1m-vectors
  python benchmarks/peers/compare.py --peer=rllib --case=xs-images --rounds=3
  git clone https://github.com/danijar/dreamerv3 ../dreamerv3
  python benchmarks/peers/compare.py --peer=jax --case=1m-vectors \
      --checkout=../dreamerv3

The peer `jax` is the author's own code of 2025, which is not on PyPI. Each peer
gets a virtual environment of its own under --venvs, made once. The order is
A B A B: the machine's speed drifts, so that only ratios of neighbours count.
The last line is JSON. What installs and what does not: docs/performance.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).absolute().parent
PEERS = {
    # portal and cloudpickle are imported by what surrounds the update.
    'jax': [
        'jax==0.10.2', 'ninjax==3.6.3', 'elements==3.22.4', 'optax==0.2.8',
        'einops==0.8.2', 'chex==0.1.92', 'ruamel.yaml', 'numpy',
        'portal==3.8.3', 'granular==0.24.2', 'cloudpickle'],
    # The last RLlib with TensorFlow that ran; later ones raise the same way.
    'rllib': [
        'ray[rllib]==2.44.1', 'tensorflow==2.18.1', 'tf-keras==2.18.0',
        'tensorflow-probability==0.24.0', 'gymnasium==1.0.0', 'numpy==2.0.2',
        'pillow', 'setuptools<80'],
    'sheeprl': ['sheeprl', 'torch', 'setuptools<80', 'numpy<2'],
}
PROGRAMS = {
    'jax': 'jax_update.py', 'rllib': 'rllib_update.py',
    'sheeprl': 'sheeprl_update.py'}
SPACES = {'vectors': ('4', '2'), 'images': ('64x64x3', '6')}
SIZES = {
    '1m': ['dreamerv3.gin', 'size/1m.gin'],
    '12m': ['dreamerv3.gin', 'size/12m.gin'],
    'xs': ['dreamerv3_v1.gin', 'size/v1_xs.gin'],
}
CASES = {
    'jax': ('1m-vectors', '1m-images', '12m-images'),
    'sheeprl': (
        '1m-vectors', '1m-images', '12m-images', 'xs-vectors', 'xs-images'),
    'rllib': ('xs-vectors', 'xs-images')}


def make_venv(peer: str, folder: pathlib.Path) -> pathlib.Path:
  """Returns the Python of a peer's environment, which is made if needed."""
  python = folder / peer / 'bin' / 'python'
  stamp = folder / peer / 'requirements.json'
  wanted = json.dumps(PEERS[peer])
  if not (stamp.is_file() and stamp.read_text() == wanted):
    subprocess.run(
        [sys.executable, '-m', 'venv', str(folder / peer)], check=True)
    subprocess.run(
        [str(python), '-m', 'pip', 'install', '--quiet', *PEERS[peer]],
        check=True)
    stamp.write_text(wanted)
  return python


def last_line(command: list[str]) -> dict:
  """Runs a program and reads the JSON in its last line.

  Raises:
    SystemExit: if it fails, with the end of what it said.
  """
  done = subprocess.run(
      command, text=True, capture_output=True, check=False)
  if done.returncode:
    end = '\n'.join(done.stderr.strip().splitlines()[-5:])
    print(f'{" ".join(command)} failed:\n{end}', file=sys.stderr)
    sys.exit(2)
  return json.loads(done.stdout.strip().splitlines()[-1])


def ours(case: str, repeats: int, extra: list[str]) -> dict:
  """Measures dv3 by dv3-bench."""
  size, kind = case.split('-')
  observations, actions = SPACES[kind]
  files = [*SIZES[size], 'task/cartpole.gin']
  return last_line([
      sys.executable, '-m', 'dv3.bin.bench', 'update', '--json',
      *(f'--gin_file={name}' for name in files),
      f'--observations={observations}', f'--actions={actions}',
      f'--repeats={repeats}', *extra])


def main():
  """Compares."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--peer', choices=sorted(PEERS), required=True)
  parser.add_argument('--case', required=True)
  parser.add_argument('--rounds', type=int, default=2)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--venvs', default=os.path.expanduser(
      '~/.cache/dv3-peers'))
  parser.add_argument(
      '--dv3', action='append', default=[],
      help='a further flag of dv3-bench, for example --dv3=--dtype=bfloat16')
  parser.add_argument(
      '--checkout', default='', help="the author's repository, for jax")
  args = parser.parse_args()
  if (args.peer == 'jax') != bool(args.checkout):
    parser.error(
        'the peer jax is not on PyPI: clone '
        'https://github.com/danijar/dreamerv3 and give its folder as '
        '--checkout, for this peer alone')
  if args.checkout and not (
      pathlib.Path(args.checkout) / 'dreamerv3' / 'configs.yaml').is_file():
    parser.error(
        f'{args.checkout} is no checkout of danijar/dreamerv3: it has no '
        'dreamerv3/configs.yaml')
  if args.case not in CASES[args.peer]:
    parser.error(
        f'{args.peer} has the cases {", ".join(CASES[args.peer])}, not '
        f'{args.case}')
  python = make_venv(args.peer, pathlib.Path(args.venvs))
  program = [
      str(python), str(HERE / PROGRAMS[args.peer]), args.case,
      str(args.repeats),
      *([f'--checkout={args.checkout}'] if args.checkout else [])]
  rows = []
  for number in range(args.rounds):
    dv3, peer = ours(args.case, args.repeats, args.dv3), last_line(program)
    rows.append((dv3, peer))
    print(
        f'round {number + 1}: dv3 {dv3["seconds"]:.3f} s, {args.peer} '
        f'{peer["seconds"]:.3f} s an update, ratio '
        f'{peer["seconds"] / dv3["seconds"]:.2f}', flush=True)
  ratios = [peer['seconds'] / dv3['seconds'] for dv3, peer in rows]
  middle = lambda side, name: statistics.median(
      row[side][name] for row in rows)
  print(json.dumps({
      'case': args.case, 'peer': args.peer,
      'times_faster': statistics.median(ratios), 'ratios': ratios,
      **{f'{who}_{name}': middle(side, name)
         for side, who in enumerate(('dv3', 'peer'))
         for name in ('seconds', 'first_update_seconds', 'peak_rss_bytes')}}))


if __name__ == '__main__':
  main()
