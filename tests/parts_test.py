"""Parts of the model: named features, use unbuilt, what factories must take."""

import functools

import gin
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras

from dv3 import agent as agent_lib
from dv3 import distributions
from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.cores import base
from dv3.distributions import rng as rng_lib
from dv3.nets import part as part_lib
from dv3.testing import checks
from dv3.testing import model_checks
from dv3.testing import small
from dv3.testing import subjects
from dv3.training import open_loop

tfd = tfp.distributions

PARTS = [
    (kind, name) for kind in ('encoder', 'core', 'decoder', 'head')
    for name in registry.names(kind) if '.' not in name]
THREE = {'deter': 16, 'clock': 3, 'stoch': 16}


def make(kind, name, feature_spec, obs_spec=None):
  part = small.make(
      kind, name, feature_spec=feature_spec, obs_spec=obs_spec,
      action_spec=small.ACTION)
  part.build()
  return part


def pictures(name):
  return small.IMAGE if name.endswith('cnn') else small.VECTOR


def features(spec):
  rng = np.random.default_rng(0)
  return {
      name: tf.constant(rng.normal(size=(2, 3, size)), tf.float32)
      for name, size in spec.items()}


def reversed_dict(values):
  return dict(reversed(values.items()))


def likelihoods(kind, name, part, values):
  if kind == 'head':
    return [part(values).log_prob(tf.zeros(part(values).event_shape))]
  obs = small.observations(pictures(name), lead=(2, 3))
  return [dist.log_prob(obs[key]) for key, dist in part(values).items()]


@pytest.mark.parametrize('spec', [small.FEATURES, THREE])
@pytest.mark.parametrize('kind, name', [
    x for x in PARTS if x[0] in ('decoder', 'head')])
def test_features_are_found_by_name(kind, name, spec):
  part = make(kind, name, spec, pictures(name))
  for variable in part.trainable_variables:
    variable.assign(tf.random.stateless_normal(variable.shape, (0, 1)))
  values = features(spec)
  expected = likelihoods(kind, name, part, values)
  found = likelihoods(kind, name, part, reversed_dict(values))
  for a, b in zip(expected, found, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('spec', [THREE, {'memory': 5, 'guess': 4}])
@pytest.mark.parametrize('name', [
    x[1] for x in PARTS if x[0] == 'decoder' and x[1] != 'none'])
def test_decoders_use_every_feature(name, spec):
  part = make('decoder', name, spec, pictures(name))
  values = features(spec)
  with tf.GradientTape() as tape:
    tape.watch(values)
    total = tf.add_n([
        tf.reduce_sum(x) for x in likelihoods('decoder', name, part, values)])
  for key, gradient in tape.gradient(total, values).items():
    assert gradient is not None and np.any(gradient), key


@pytest.mark.parametrize('kind, name', PARTS)
def test_used_unbuilt_says_so(kind, name):
  model_checks.used_unbuilt_says_so(kind, name, {})


@pytest.mark.parametrize('kind, name', PARTS)
def test_variables_of_an_unbuilt_part_are_not_an_empty_list(kind, name):
  part = small.make(
      kind, name, feature_spec=small.FEATURES, obs_spec=pictures(name),
      action_spec=small.ACTION)
  with pytest.raises(errors.UserError, match=r'not built; call its build\(\)'):
    _ = part.trainable_variables
  part.build()
  assert part.trainable_variables or name == 'none'


@pytest.mark.parametrize('name', [x[1] for x in PARTS if x[0] == 'core'])
def test_a_kl_of_an_unbuilt_core_says_so(name):
  built = small.make('core', name)
  built.build()
  zeros = tf.zeros([1, 16]), tf.zeros([1, 4, 4]), tf.zeros([1, 4, 4])
  latents = type(built.imagine_step(
      tf.zeros([1, 3]), built.initial(1), rng_lib.Rng(0))[0])(*zeros)
  core = small.make('core', name)
  with pytest.raises(errors.UserError, match=r'not built; call its build\(\)'):
    core.kl(latents)
  assert not core.variables


@pytest.mark.parametrize('name', [x[1] for x in PARTS if x[0] == 'core'])
@pytest.mark.parametrize('sizes, message', [
    ((4, 3), 'got tokens of 4 numbers, but was made with token_size 5'),
    ((5, 2), 'got actions of 2 numbers, but was made with action_size 3')])
def test_inputs_of_other_sizes_are_one_clear_error(name, sizes, message):
  core = small.make('core', name)
  core.build()
  tokens, action = (tf.zeros([2, 3, size]) for size in sizes)
  first = tf.zeros([2, 3], tf.bool)
  rng = rng_lib.Rng(0)
  with pytest.raises(errors.UserError, match=f'core.{name} {message}'):
    core.observe(tokens, action, first, core.initial(2), rng)
  with pytest.raises(errors.UserError, match=message):
    core.observe_step(
        tokens[:, 0], action[:, 0], first[:, 0], core.initial(2), rng)


class WrongTokens(keras.layers.Layer, interfaces.Encoder):
  def __init__(self, *, obs_spec):
    super().__init__()

  def call(self, obs):
    return obs['numbers']


class Sized(WrongTokens):
  token_size = 7


@pytest.mark.parametrize('encoder, message', [
    (WrongTokens, 'WrongTokens has no token_size'),
    (Sized, 'made tokens of 3 numbers, but its token_size is 7')])
def test_an_encoder_says_the_length_of_its_tokens(encoder, message):
  with pytest.raises(errors.UserError, match=message):
    agent = agent_lib.Agent(
        obs_spec=small.VECTOR, action_spec=small.ACTION, encoder=encoder,
        core=functools.partial(small.make, 'core', 'rssm'))
    agent.encode(small.observations(small.VECTOR))


def test_a_functional_keras_model_uses_a_built_encoder():
  encoder = small.make('encoder', 'mlp', obs_spec={
      'numbers': types.Spec((3,), 'float32')})
  encoder.build()
  inputs = {'numbers': keras.Input([3])}
  model = keras.Model(inputs, keras.layers.Dense(2)(encoder(inputs)))
  assert model(
      {'numbers': tf.zeros([5, 3])}).shape == [5, 2]


class Bare(keras.layers.Layer):
  """What the parts below share: one dense layer of Keras, built lazily."""

  def __init__(self, size):
    super().__init__()
    self.dense = keras.layers.Dense(size)

  def joined(self, values):
    return self.dense(tf.concat(
        [tf.cast(values[key], tf.float32) for key in sorted(values)], -1))


class BareEncoder(Bare, interfaces.Encoder):
  token_size = 6

  def __init__(self, *, obs_spec):
    super().__init__(self.token_size)
    self.numbers = [k for k, v in obs_spec.items() if v.dtype == 'float32']
    if not self.numbers:
      raise errors.UserError('no numbers')

  def build(self, input_shape=None):
    self.dense.build([None, 3])
    super().build(input_shape)

  def call(self, obs):
    return self.joined({key: obs[key] for key in self.numbers})


class BareDecoder(Bare, interfaces.Decoder):
  def __init__(self, *, obs_spec, feature_spec):
    (self.key, spec), *rest = obs_spec.items()
    if rest or not spec.is_image:
      raise errors.UserError('one image only')
    self.shape, self.keys = spec.shape, (self.key,)
    super().__init__(spec.size)
    self.inputs = sum(feature_spec.values())

  def build(self, input_shape=None):
    self.dense.build([None, self.inputs])
    super().build(input_shape)

  def call(self, values):
    mean = self.joined(values)
    return {self.key: distributions.Image(
        tf.reshape(mean, [*mean.shape[:-1], *self.shape]))}


class BareHead(Bare, interfaces.Head):
  def __init__(self, *, feature_spec):
    super().__init__(1)
    self.inputs = sum(feature_spec.values())

  def build(self, input_shape=None):
    self.dense.build([None, self.inputs])
    super().build(input_shape)

  def call(self, values):
    return distributions.UnitNormal(self.joined(values)[..., 0], 0)


class BareCore(base.RecurrentCore, interfaces.Core):
  """A core with three features, without `dtype` and without `starts`."""

  feature_spec = {'deter': 5, 'stoch': 4, 'clock': 1}
  replay_spec = {
      'deter': types.Spec((5,), 'float32'), 'clock': types.Spec((), 'float32')}

  def __init__(self, *, token_size, action_size):
    super().__init__(name='bare')
    self.sizes = token_size, action_size
    self.dynamics = keras.layers.Dense(5, 'tanh')
    self.filter = keras.layers.Dense(5, 'tanh')
    self.guess = keras.layers.Dense(4)
    self.built = False

  def build(self):
    self.dynamics.build([None, 5 + self.sizes[1]])
    self.filter.build([None, 5 + self.sizes[0]])
    self.guess.build([None, 5])
    self.built = True

  def initial(self, batch_size):
    return {'deter': tf.zeros([batch_size, 5]), 'clock': tf.zeros([batch_size])}

  def _latents(self, deter, prior, clock):
    return {
        'deter': deter, 'clock': clock, 'stoch': self.guess(deter),
        'prior': prior}, {'deter': deter, 'clock': clock}

  def observe_step(self, tokens, prev_action, is_first, state, rng):
    if not self.built:
      raise ValueError('call build() first')
    state, prev_action = tf.nest.map_structure(
        lambda x: tf.where(
            tf.reshape(is_first, [-1] + [1] * (x.shape.rank - 1)), 0.0, x),
        (state, prev_action))
    prior = self.dynamics(tf.concat(
        [state['deter'], prev_action], -1))
    deter = self.filter(tf.concat([prior, tokens], -1))
    # Of the inputs too, as the suite asks of every feature.
    clock = state['clock'] + 1.0 + tf.reduce_sum(tokens, -1)
    return self._latents(deter, prior, clock)

  def imagine_step(self, action, state, rng):
    deter = self.dynamics(tf.concat([state['deter'], action], -1))
    return self._latents(deter, deter, state['clock'] + 1.0)

  def features(self, latents):
    return {
        'clock': latents['clock'][..., None], 'deter': latents['deter'],
        'stoch': self.guess(latents['deter'])}

  def kl(self, latents):
    distance = tf.reduce_sum(
        tf.square(latents['deter'] - latents['prior']), -1)
    return distance, distance

  def replay_entry(self, latents):
    return {key: latents[key] for key in self.replay_spec}

  def state_from_replay(self, entry):
    return dict(entry)


BARE = {
    ('encoder', 'test.bare'): BareEncoder,
    ('decoder', 'test.pictures'): BareDecoder, ('head', 'test.bare'): BareHead,
    ('core', 'test.bare'): BareCore}


@pytest.fixture(autouse=True, scope='module')
def registered():
  for (kind, name), cls in BARE.items():
    registry.register(kind, name)(cls)
  yield
  for key in BARE:  # Other tests look at all that is registered.
    del registry._components[key]


@pytest.mark.parametrize('kind, name, check', [
    (kind, name, check) for kind, name in BARE for check in checks.CHECKS[kind]
    if check is not checks.two_replicas_stay_equal])
def test_parts_without_dtype_and_starts_pass_the_suite(
    kind, name, check, tmp_path):
  checks.run(check, kind, name, {}, tmp_path)


def agent(compute_dtype='float32', **choices):
  part = lambda kind, name, **kw: functools.partial(small.make, kind, name, kw)
  choices = {
      'encoder': part('encoder', 'dict'), 'core': part('core', 'rssm'),
      'decoder': part('decoder', 'dict'), 'reward': part('head', 'twohot'),
      'continuation': part('head', 'binary'), 'actor': part('head', 'actor'),
      'critic': part('head', 'twohot'), **choices}
  return agent_lib.Agent(
      obs_spec={**small.VECTOR, **small.IMAGE}, action_spec=small.ACTION,
      imagination_horizon=2, compute_dtype=compute_dtype, **choices)


BARE_CHOICES = [
    {'encoder': BareEncoder},
    {'core': BareCore},
    {'reward': functools.partial(BareHead)},
    {'decoder': functools.partial(
        registry.get('decoder', 'dict'), vector=functools.partial(
            small.make, 'decoder', 'mlp'),
        image=BareDecoder)}]


@pytest.mark.parametrize('choice', BARE_CHOICES)
def test_an_agent_of_bare_parts_trains_in_float32_alone(choice):
  built = agent(**choice)
  built.build()
  with tf.GradientTape() as tape:
    total, _ = built.loss(small.batch(), rng_lib.Rng(0))
  assert np.isfinite(total)
  name, = choice
  gradients = tape.gradient(total, built.variables_of(name))
  assert any(x is not None for x in gradients)
  with pytest.raises(errors.UserError, match='Bare.*bfloat16.*compute_dtype'):
    agent('bfloat16', **choice)


def test_starts_without_gradients_from_replay_entries():
  core = small.make('core', 'test.bare')
  core.build()
  inputs = subjects.core_inputs()
  with tf.GradientTape() as tape:
    latents, _ = core.observe(
        *inputs, core.initial(small.BATCH), rng_lib.Rng(0))
    starts = base.starts(core, latents)
  np.testing.assert_array_equal(
      starts['deter'], tf.reshape(latents['deter'], [-1, 5]))
  assert not any(x is not None for x in tape.gradient(
      starts['deter'], core.trainable_variables))


@gin.register('factory_of', module='test')
def factory_of(choice):
  return choice


@pytest.mark.parametrize('text, takes', [
    ('@core.rssm', True), ('@scope/core.rssm', True),
    ('@core.test.bare', False), ('@scope/core.test.bare', False)])
def test_gin_references_say_whether_they_take_a_dtype(text, takes):
  with gin.unlock_config():
    gin.parse_config(f'test.factory_of.choice = {text}')
  factory = gin.get_configurable('test.factory_of')()
  assert part_lib.takes_dtype(factory) == takes
  gin.clear_config()


class Pictures(keras.layers.Layer, interfaces.Decoder):
  """Predicts images by a distribution of TFP's own."""

  keys = ('image',)

  def __init__(self, *, obs_spec, feature_spec):
    super().__init__()
    self.dense = keras.layers.Dense(14 * 12 * 3, 'sigmoid')
    self.inputs = sum(feature_spec.values())

  def build(self, input_shape=None):
    self.dense.build([None, self.inputs])
    super().build(input_shape)

  def call(self, values):
    x = self.dense(tf.concat(list(values.values()), -1))
    x = tf.reshape(x, [*x.shape[:-1], 14, 12, 3])
    return {'image': tfd.Independent(
        tfd.Normal(x, 1.0), 3)}


def test_open_loop_videos_of_a_plain_distribution():
  built = agent(decoder=Pictures, core=BareCore)
  built.build()
  batch = {key: value.numpy() for key, value in small.batch().items()}
  video, = open_loop.OpenLoop(built, seed=0)(batch).values()
  assert video.dtype == np.uint8 and video.shape[0] == small.LENGTH


def test_without_a_decoder_there_is_nothing_to_reconstruct_or_to_show():
  part = lambda kind, name, **kwargs: functools.partial(
      small.make, kind, name, kwargs)
  agent = lambda *losses: agent_lib.Agent(
      obs_spec=small.IMAGE, action_spec=small.ACTION,
      encoder=part('encoder', 'cnn'), core=part('core', 'rssm'),
      decoder=part('decoder', 'none'), losses=tuple(
          registry.get('loss', name) for name in losses))
  with pytest.raises(errors.UserError, match='loss.reconstruction has nothing'):
    agent('kl', 'reconstruction').build()
  made = agent('kl', 'redundancy')
  made.build()
  assert not made.variables_of('decoder')
  assert open_loop.OpenLoop(made, seed=0).keys == []
