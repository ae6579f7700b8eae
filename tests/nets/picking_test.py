"""One-hot features and their products, against NumPy."""

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf

from dv3 import distributions
from dv3 import types
from dv3.cores import categorical
from dv3.cores import gru
from dv3.cores import rssm
from dv3.distributions import rng as rng_lib
from dv3.heads import twohot
from dv3.nets import linear
from dv3.nets import picking
from dv3.nets import xla


class Numbers:
  """A key whose uniform numbers are known."""

  def __init__(self, values):
    self.values = values

  def uniform(self, shape):
    return tf.reshape(self.values, shape)


@pytest.mark.parametrize('unimix', [0.0, 0.5])
@pytest.mark.parametrize('by_class', [False, True])
def test_a_draw_inverts_the_cumulative_distribution(
    by_class, unimix, monkeypatch):
  monkeypatch.setattr(picking, 'draws_pay', lambda shape: by_class)
  logits = np.random.default_rng(0).standard_normal((6, 3, 5))
  numbers = np.random.default_rng(1).random((6, 3))
  numbers[0] = 0.0, 1.0 - 2.0 ** -24, 0.5
  probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  sums = np.cumsum((1.0 - unimix) * probs + unimix / 5, -1)
  expected = np.minimum((sums < numbers[..., None]).sum(-1), 4)

  def run(logits, numbers):
    sample = distributions.OneHot(logits, unimix).draw(Numbers(numbers))
    assert (sample.op.type == 'OneHot') == by_class
    return sample

  sample = xla.compiled(run)(
      tf.constant(logits, tf.float32), tf.constant(numbers, tf.float32))
  np.testing.assert_array_equal(sample, np.eye(5)[expected])


def one_hots(rows, groups, classes):
  """Returns [rows, groups * classes] with some groups of zeros."""
  rng = np.random.default_rng(0)
  value = np.eye(classes, dtype=np.float32)[
      rng.integers(0, classes, (rows, groups))]
  value[rng.random((rows, groups)) < 0.1] = 0.0
  return value.reshape(rows, groups * classes)


@pytest.mark.parametrize(
    'dtype, bound', [('float32', 1e-5), ('bfloat16', 0.02)])
@pytest.mark.parametrize('least_sums', [1, 10_000])
@pytest.mark.parametrize('lead', [(24,), (4, 6)])
@pytest.mark.parametrize('change', [
    'none', 'soft', 'two', 'small', 'negative', 'cancelling'])
def test_picked_rows_are_the_product(
    change, lead, least_sums, dtype, bound, monkeypatch):
  monkeypatch.setattr(picking, 'LEAST_ROWS', 1)
  monkeypatch.setattr(picking, 'LEAST_SUMS', least_sums)
  classes = picking.LEAST_CLASSES
  value = one_hots(24, 3, classes)
  one = value[7, :classes]
  one[:] = np.eye(classes)[3]
  if change == 'soft':
    one[3:5] = 0.9, 0.1
  elif change == 'two':
    one[5] = 1.0
  elif change == 'small':
    one[3] = 0.4
  elif change == 'negative':
    one[6] = -0.5
  elif change == 'cancelling':
    one[5:7] = 0.3, -0.3
  value = value.reshape(*lead, -1)
  rng = np.random.default_rng(1)
  kernel = rng.standard_normal((3 * classes, 8)).astype(np.float32)
  upstream = rng.standard_normal((*lead, 8)).astype(np.float32)

  def run(value, kernel, upstream):
    kernel = tf.cast(kernel, dtype)
    with tf.GradientTape() as tape:
      tape.watch([value, kernel])
      x = picking.pick(value, classes)
      assert isinstance(x, picking.Picked)
      y = picking.picked(x, kernel)
    return y, *tape.gradient(
        y, [value, kernel],
        output_gradients=tf.cast(upstream, dtype)), x.classes.exact

  *results, exact = xla.compiled(run)(
      tf.constant(value), tf.constant(kernel), tf.constant(upstream))
  assert exact == (change == 'none')
  y, dx, dw = (x.numpy().astype(np.float64) for x in results)
  rows = value.reshape(24, -1).astype(np.float64)
  dy = upstream.reshape(24, -1)
  close = lambda a, b: np.testing.assert_allclose(
      a, b, atol=bound * np.abs(b).max())
  close(y, (rows @ kernel).reshape(*lead, 8))
  close(dx, (dy @ kernel.T).reshape(value.shape))
  close(dw, rows.T @ dy)


def test_rows_are_picked_only_where_it_pays(monkeypatch):
  many = tf.zeros([picking.LEAST_ROWS, 2 * picking.LEAST_CLASSES])
  assert picking.pick(many, picking.LEAST_CLASSES) is many  # Not compiled.
  kinds = []
  def ask(x):
    for rows, classes in ((picking.LEAST_ROWS, picking.LEAST_CLASSES), (
        picking.LEAST_ROWS - 1, picking.LEAST_CLASSES), (
            picking.LEAST_ROWS, picking.LEAST_CLASSES // 2)):
      kinds.append(type(picking.pick(x[:rows], classes)))
    return x
  monkeypatch.setattr(xla, 'has_gpu', lambda: False)
  xla.compiled(ask).get_concrete_function(many)
  assert [kind is picking.Picked for kind in kinds] == [True, False, False]


@pytest.mark.parametrize('layers', [0, 2])
def test_a_head_of_one_hot_features_is_that_of_any(layers, monkeypatch):
  monkeypatch.setattr(picking, 'LEAST_ROWS', 1)
  classes = picking.LEAST_CLASSES
  features = {
      'deter': tf.random.stateless_normal([5, 4], [0, 1]),
      'stoch': tf.constant(one_hots(5, 2, classes))}
  heads = [
      twohot.TwoHotHead(
          feature_spec={'deter': 4, 'stoch': size}, layers=layers, units=6,
          output_scale=1.0)
      for size in (
          2 * classes, types.OneHotSize(2 * classes, classes))]
  for head in heads:
    head.build()
  for ours, theirs in zip(*(head.variables for head in heads), strict=True):
    theirs.assign(ours)
  expected, found = (
      xla.compiled(lambda x, head=head: head(x).mean())(features)
      for head in heads)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def always(monkeypatch):
  """Rows are picked however few they are."""
  monkeypatch.setattr(picking, 'LEAST_ROWS', 1)
  monkeypatch.setattr(picking, 'LEAST_SUMS', 1)
  monkeypatch.setattr(picking, 'LEAST_CLASSES', 1)
  monkeypatch.setattr(picking, 'LEAST_GROUPS', 1)
  monkeypatch.setattr(xla, 'has_gpu', lambda: False)


def test_draws_by_classes_pay_for_latents_alone(monkeypatch):
  """Each class is code, and groups are what is vectorised over."""
  monkeypatch.setattr(xla, 'has_gpu', lambda: False)
  rows, most = picking.LEAST_ROWS, picking.MOST_CLASSES
  paying = [(rows, 32, 32), (rows // 4, 4, 8, most)]
  others = [
      (rows, 1, 32), (rows, 32, most + 1), (rows, 32, 16), (rows - 1, 32, 32),
      (None, 32, 32), (rows, 4, 8, most + 1)]

  def run(x):
    assert all(map(picking.draws_pay, paying))
    assert not any(map(picking.draws_pay, others))
    return x

  xla.compiled(run)(tf.ones([]))
  assert not any(map(picking.draws_pay, paying))  # Not compiled.


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('first', ['one-hot', 'soft', 'known'])
def test_classes_are_known_of_what_is_made_of_known_ones(first, dtype, always):
  """Joined along time with others, reshaped, cut off from gradients."""
  rng = np.random.default_rng(0)
  index = rng.integers(-1, 4, (5, 2, 3)).astype(np.int32)
  start = np.eye(5, 4, dtype=np.float32)[rng.integers(0, 5, (5, 3))]
  if first == 'soft':
    start[1, 2] = 0.5, 0.5, 0.0, 0.0
  kernel = rng.standard_normal((12, 6)).astype(np.float32)
  sure = []

  def run(index, start, kernel):
    if first == 'known':
      start = picking.one_hot(tf.argmax(start, -1, tf.int32), 4)
    dream = tf.reshape(picking.one_hot(index, 4), [5, 2, 12])
    value = tf.stop_gradient(tf.concat([
        tf.cast(x, dtype) for x in (tf.reshape(start, [5, 1, 12]), dream)], 1))
    x = picking.pick(tf.identity(tf.cast(value, tf.float32)), 4)
    sure.append(x.classes.exact is None)
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      y = picking.picked(x, kernel)
    exact = True if x.classes.exact is None else x.classes.exact
    return y, tape.gradient(y, kernel), exact, x.value

  y, gradient, exact, value = xla.compiled(run)(
      tf.constant(index), tf.constant(start), tf.constant(kernel))
  if first == 'known':
    start = np.eye(4, dtype=np.float32)[start.argmax(-1)]
  expected = np.concatenate([
      start.reshape(5, 1, 12),
      (index[..., None] == np.arange(4)).reshape(5, 2, 12)], 1)
  np.testing.assert_array_equal(value, expected)
  assert sure == [first == 'known']
  assert exact == (first != 'soft')
  np.testing.assert_allclose(y, expected @ kernel, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
      gradient, expected.sum((0, 1))[:, None].repeat(6, 1), atol=1e-5)


@pytest.mark.parametrize('change', ['slice', 'add', 'other classes'])
def test_classes_are_not_known_of_anything_else(change, always):
  def run(index):
    value = picking.one_hot(index, 4)
    if change == 'slice':
      value = value[..., ::-1]
    elif change == 'add':
      value += 0.5
    x = picking.pick(value, 2 if change == 'other classes' else 4)
    assert x.classes.exact is not None
    return x.classes.index

  found = xla.compiled(run)(tf.constant([[1, 2, 3]], tf.int32))
  expected = {
      'slice': [[2, 1, 0]], 'add': [[1, 2, 3]],
      'other classes': [[1, -1], [-1, 0], [-1, 1]]}[change]
  np.testing.assert_array_equal(
      np.reshape(found, np.shape(expected)), expected)


def test_latents_of_a_batch_of_unknown_size(always):
  """As in what `dv3-export` writes for serving."""
  layer = linear.Logits((3, 4))
  layer.build([None, 5])
  spec = tf.TensorSpec([None, 5])
  run = lambda x: rng_lib.Rng(7).sample(distributions.OneHot(layer(x), 0.01))
  sample = tf.function(run, input_signature=[spec])(tf.ones([6, 5]))
  np.testing.assert_array_equal(tf.reduce_sum(sample, -1), np.ones((6, 3)))
  xla.compiled(run).get_concrete_function(spec)  # Is traced.


@pytest.mark.parametrize('make', [tf.constant, tf.Variable])
def test_picks_of_what_a_traced_function_captures(make, always):
  value = make(one_hots(6, 2, 4))
  kernel = tf.random.stateless_normal([8, 3], [0, 1])
  run = lambda kernel: picking.picked(picking.pick(value, 4), kernel)
  np.testing.assert_allclose(
      xla.compiled(run)(kernel), value.numpy() @ kernel.numpy(), atol=1e-5)


@pytest.mark.parametrize('bias', [False, True])
def test_logits_with_classes_outermost_are_those_of_any(bias, always):
  layer = linear.Logits((3, 4), use_bias=bias)
  layer.build([None, 5])
  for variable in layer.variables:
    variable.assign(tf.random.stateless_normal(variable.shape, [0, 1]))
  x = tf.random.stateless_normal([2, 7, 5], [0, 2])
  found = xla.compiled(lambda x: layer(x))(x)
  expected = x.numpy() @ layer.kernel.numpy()
  expected += layer.bias.numpy() if bias else 0.0
  np.testing.assert_allclose(
      found, expected.reshape(2, 7, 3, 4), rtol=1e-5, atol=1e-5)


class SoftGRU(gru.GRUCore):
  """A core as somebody else may write it: its latents are probabilities."""

  def result(self, deter, logits, rng):
    stoch = tf.nn.softmax(logits)
    return (
        categorical.Latents(deter, stoch, logits),
        categorical.State(deter, stoch))


@pytest.mark.parametrize('start', ['one-hot', 'zeros', 'soft'])
@pytest.mark.parametrize('make', [gru.GRUCore, rssm.RSSM, SoftGRU])
def test_dreams_and_their_gradients_are_those_of_a_graph(make, start, always):
  core = make(
      token_size=4, action_size=2, deter=16, hidden=8, stoch=3, classes=4)
  core.build()
  head = twohot.TwoHotHead(
      feature_spec=core.feature_spec, layers=1, units=6, output_scale=1.0)
  head.build()
  for number, variable in enumerate((
      *core.trainable_variables, *head.trainable_variables)):
    variable.assign(
        0.5 * tf.random.stateless_normal(variable.shape, [1, number]))
  stoch = np.eye(4, dtype=np.float32)[
      np.random.default_rng(0).integers(0, 4, (5, 3))]
  if start == 'zeros':
    stoch[1] = 0.0
  elif start == 'soft':
    stoch[2, 1] = 0.25
  deter = tf.random.stateless_normal([5, 16], [0, 3])

  known = []

  def run(deter, stoch):
    def policy(features, rng):
      del rng
      return tf.tanh(tf.reduce_sum(head.hidden(features), -1))[:, None] * [
          1.0, -1.0]
    with tf.GradientTape() as tape:
      tape.watch([deter, stoch])
      latents, action, state = core.imagine(
          policy, categorical.State(deter, stoch), 3, rng_lib.Rng(7))
      # Their symlog: values are up to e^20.
      x = picking.pick(core.features(latents)['stoch'], 4)
      known.append(
          isinstance(x, picking.Picked) and x.classes.exact is None)
      value = tf.asinh(head(core.features(latents)).mean())
      total = tf.reduce_sum(value) + tf.reduce_sum(
          tf.asinh(head(core.features(state)).mean()))
    gradients = tape.gradient(
        total, [deter, stoch, *head.trainable_variables])
    return latents, action, state, value, gradients

  expected = tf.function(run)(deter, tf.constant(stoch))
  found = xla.compiled(run)(deter, tf.constant(stoch))
  assert known == [False, make is not SoftGRU]
  for ours, theirs in zip(
      tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(
        ours, theirs, atol=1e-4 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize('step', [False, True])
def test_a_dream_may_go_on_where_another_ended(step, always):
  core = rssm.RSSM(
      token_size=4, action_size=2, deter=16, hidden=8, stoch=3, classes=4,
      blocks=4)
  core.build()
  policy = lambda features, rng: features['deter'][:, :2]

  def run(deter):
    state = categorical.State(deter, tf.one_hot([[0, 1, 2]] * 5, 4))
    if step:
      _, state = core.imagine_step(deter[:, :2], state, rng_lib.Rng(1))
    else:
      *_, state = core.imagine(policy, state, 2, rng_lib.Rng(1))
    return core.imagine(policy, state, 3, rng_lib.Rng(2))

  deter = tf.random.stateless_normal([5, 16], [0, 3])
  expected = tf.function(run)(deter)
  found = xla.compiled(run)(deter)
  for ours, theirs in zip(
      tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_the_size_of_a_one_hot_feature_is_an_integer_that_says_more(copied):
  size = copied(types.OneHotSize(64, 16))
  assert (size, size.classes, size + 1) == (64, 16, 65)
