"""Golden numbers: return normalizers and the slow copy."""

import golden_data
import numpy as np
import pytest
import tensorflow as tf

from dv3.normalizers import meanstd
from dv3.normalizers import percentile
from dv3.normalizers import slow

DATA = golden_data.load('returns')
OURS = {
    'lo': 'low', 'hi': 'high', 'mean': 'mean', 'sqrs': 'square',
    'corr': 'correction'}
CASES = {
    'perc_limit1_nodebias': lambda: percentile.PercentileNormalizer(),
    'perc_limit1_debias': lambda: percentile.PercentileNormalizer(debias=True),
    'meanstd_debias': lambda: meanstd.MeanStdNormalizer(debias=True),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('compiled', [False, True])
def test_returns_normalizer(case, compiled):
  normalizer = CASES[case]()
  normalizer.build()
  update = tf.function(
      normalizer.update, autograph=False, jit_compile=compiled)
  get = lambda name: DATA[f'normalizer/{case}/{name}']
  close = lambda actual, expected: np.testing.assert_allclose(
      actual, expected, rtol=1e-4, atol=1e-5)
  for i, values in enumerate(DATA['normalizer/x']):
    offset, scale = update(tf.constant(values))
    close(offset, get('offset')[i])
    close(scale, get('scale')[i])
    state = [getattr(normalizer, OURS[str(n)]) for n in get('state_names')]
    close(state, get('state')[i])
  np.testing.assert_array_equal(normalizer.read(), (offset, scale))


def test_returns_normalizer_percentiles():
  normalizer = percentile.PercentileNormalizer()
  expected = DATA['normalizer/percentiles_5_95_per_batch']
  for values, pair in zip(DATA['normalizer/x'], expected, strict=True):
    actual = normalizer.statistics(tf.reshape(values, [-1]))
    np.testing.assert_allclose(actual, pair, rtol=1e-5, atol=1e-6)


class Part(tf.Module):
  """A part with one weight."""

  def __init__(self, value):
    super().__init__()
    self.kernel = tf.Variable(value, name='kernel')


@pytest.mark.parametrize('case', ['every1', 'every3'])
@pytest.mark.parametrize('compiled', [False, True])
def test_returns_slow_copy(case, compiled):
  get = lambda name: DATA[f'slow/{case}/{name}']
  fast = Part(get('slow_kernel_before'))
  other = Part(np.zeros_like(get('slow_kernel_before')))
  copy = slow.SlowCopy(
      fast, other, rate=float(get('rate')), every=int(get('every')))
  copy.build()
  np.testing.assert_array_equal(other.kernel, get('slow_kernel_before'))
  update = tf.function(copy.update, autograph=False, jit_compile=compiled)
  pairs = zip(get('source_kernel'), get('slow_kernel_after'), strict=True)
  for source, expected in pairs:
    fast.kernel.assign(source)
    update()
    np.testing.assert_allclose(other.kernel, expected, rtol=1e-5, atol=1e-7)
