"""The shipped sizes hold the published numbers."""

import pathlib

import pytest

from dv3.config import files
from dv3.config import reader

PUBLISHED = {  # deter, hidden, classes, depth, units
    '1m': (512, 64, 4, 4, 64),
    '12m': (2048, 256, 16, 16, 256),
    '25m': (3072, 384, 24, 24, 384),
    '50m': (4096, 512, 32, 32, 512),
    '100m': (6144, 768, 48, 48, 768),
    '200m': (8192, 1024, 64, 64, 1024),
    '400m': (12288, 1536, 96, 96, 1536),
}


@pytest.mark.parametrize('size', PUBLISHED)
def test_size(size):
  path = pathlib.Path(files.find(f'size/{size}.gin'))
  values = {b.name: b.value for b in reader.read_file(str(path))}
  names = ('DETER', 'HIDDEN', 'CLASSES', 'DEPTH', 'UNITS')
  assert values == dict(zip(names, PUBLISHED[size], strict=True))


def test_no_other_size_of_this_form_is_shipped():
  found = {
      name for name in files.shipped_names()
      if name.startswith('size/') and not name.startswith('size/v1_')}
  assert found == {f'size/{size}.gin' for size in PUBLISHED}
