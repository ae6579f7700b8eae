"""Components that break their contract, each in one way."""

import gymnasium
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras

from dv3 import distributions
from dv3 import interfaces
from dv3 import registry
from dv3.balancers import fixed
from dv3.cores import base
from dv3.cores import rssm
from dv3.decoders import dict as decoders_dict
from dv3.heads import actor
from dv3.heads import twohot
from dv3.losses import reward
from dv3.nets import inputs


@registry.register('core', 'test.forgets_resets')
class ForgetsResets(rssm.RSSM):
  def project(self, tokens, prev_action, is_first):
    return super().project(tokens, prev_action, tf.zeros_like(is_first))


@registry.register('core', 'test.multiplies')
class Multiplies(rssm.RSSM):
  def filter_step(self, weights, inputs, state, rng):
    token, action, keep = inputs
    state = state._replace(deter=state.deter * keep, stoch=(
        state.stoch * keep[..., None]))
    return super().filter_step(
        weights, (token, action, tf.ones_like(keep)), state, rng)


@registry.register('core', 'test.two_ways')
class TwoWays(rssm.RSSM):
  def observe_step(self, tokens, prev_action, is_first, state, rng):
    return super().observe_step(
        tokens * 1.5, prev_action, is_first, state, rng)


@registry.register('head', 'test.idle_weight')
class IdleWeight(twohot.TwoHotHead):
  def build(self, input_shape=None):
    super().build(input_shape)
    self.idle = self.add_weight('idle', [2])


@registry.register('head', 'test.late_weight')
class LateWeight(twohot.TwoHotHead):
  def call(self, features):
    self.late = self.late if hasattr(self, 'late') else tf.Variable(1.0)
    return super().call({k: self.late * v for k, v in features.items()})


@registry.register('normalizer', 'test.own_statistics')
class OwnStatistics(tf.Module, interfaces.Normalizer):
  def build(self):
    self.mean = tf.Variable(0.0, trainable=False)

  def update(self, values):
    self.mean.assign(tf.reduce_mean(values))
    return self.read()

  def read(self):
    return tf.convert_to_tensor(self.mean), tf.constant(1.0)


@registry.register('loss', 'test.stops')
class Stops(reward.RewardLoss):
  def __call__(self, context):
    losses, metrics = super().__call__(context)
    return tf.nest.map_structure(tf.stop_gradient, losses), metrics


@registry.register('loss', 'test.idle_variable')
class IdleVariable(reward.RewardLoss):
  def build(self, parts):
    self.idle = tf.Variable([1.0, 2.0])


@registry.register('loss', 'test.late_variable')
class LateVariable(reward.RewardLoss):
  def __call__(self, context):
    scale = tf.Variable(1.0)
    losses, metrics = super().__call__(context)
    return {k: scale * v for k, v in losses.items()}, metrics


@registry.register('loss', 'test.noise')
class Noise(reward.RewardLoss):
  def __call__(self, context):
    losses, metrics = super().__call__(context)
    noise = tf.random.normal([])
    return {k: noise + v for k, v in losses.items()}, metrics


@registry.register('loss', 'test.too_long')
class TooLong(reward.RewardLoss):
  def __call__(self, context):
    losses, metrics = super().__call__(context)
    return {k: tf.concat([v, v], 1) for k, v in losses.items()}, metrics


class Hidden:
  pass


@registry.register('loss', 'test.not_saved')
class NotSaved(reward.RewardLoss):
  def build(self, parts):
    self._hidden = Hidden()
    self._hidden.count = tf.Variable(0.0, trainable=False)

  @property
  def variables(self):
    return (self._hidden.count,)


@registry.register('balancer', 'test.late_variable')
class LateBalancer(fixed.FixedBalancer):
  def __call__(self, means):
    total, metrics = super().__call__(means)
    return total * tf.Variable(1.0), metrics


@registry.register('balancer', 'test.idle_variable')
class IdleBalancer(fixed.FixedBalancer):
  def build(self, names):
    self.idle = tf.Variable(1.0)


class Counting(keras.optimizers.SGD):
  count = 0

  def apply_gradients(self, pairs, **kwargs):
    self.count += 1
    return super().apply_gradients(
        [(g / self.count, v) for g, v in pairs], **kwargs)


@registry.register('optimizer', 'test.counting')
def counting(learning_rate=0.1):
  return Counting(learning_rate)


@registry.register('core', 'test.time_major')
class TimeMajor(rssm.RSSM):
  """Starts in the order t * B + b."""

  def starts(self, latents):
    entry = {k: base.swap(v) for k, v in self.replay_entry(latents).items()}
    return self.state_from_replay(base.flat(entry))


@registry.register('core', 'test.same_noise')
class SameNoise(rssm.RSSM):
  """Draws the same numbers at every step of a dream."""

  def imagine(self, policy, state, horizon, rng):
    latents, actions = [], []
    for t in range(horizon):
      actions.append(policy(self.features(state), rng.fold('action').at(t)))
      latent, state = self.imagine_step(actions[-1], state, rng)
      latents.append(latent)
    stack = lambda *x: tf.stack(x, 1)
    return tf.nest.map_structure(stack, *latents), stack(*actions), state


@registry.register('core', 'test.timeless')
class Timeless(rssm.RSSM):
  """Names its draws, and draws the same numbers at every step of a dream."""

  def imagine_step(self, action, state, rng):
    return super().imagine_step(action, state, rng.at(0))

  def imagine(self, policy, state, horizon, rng):
    return base.RecurrentCore.imagine(self, policy, state, horizon, rng)


@registry.register('core', 'test.zero_state')
class ZeroState(rssm.RSSM):
  """Makes nothing of what replay stored."""

  def state_from_replay(self, entry):
    return tf.nest.map_structure(
        tf.zeros_like, super().state_from_replay(entry))


class Layer(keras.layers.Layer):
  """A layer whose variables all arise in `build`, of the given specs."""

  def __init__(self, obs_spec=None, feature_spec=None, dtype='float32'):
    super().__init__(autocast=False, dtype=dtype)
    self.obs_spec = dict(obs_spec or {})
    self.sizes = dict(feature_spec or {})
    self.token_size = 8
    self.dense = keras.layers.Dense(self.token_size, dtype=dtype)

  def build(self, input_shape=None):
    size = sum(self.sizes.values()) + sum(
        x.encoded_size for x in self.obs_spec.values() if not x.is_image)
    self.dense.build([None, size])
    super().build(input_shape)

  def vectors(self, obs):
    specs = {k: v for k, v in self.obs_spec.items() if not v.is_image}
    return tf.cast(inputs.vectors(obs, specs, symlog=True), self.compute_dtype)


@registry.register('encoder', 'test.lazy_image')
class LazyImage(Layer, interfaces.Encoder):
  """Makes the convolution's variables when it is called."""

  def __init__(self, *, obs_spec, dtype='float32'):
    super().__init__(obs_spec, dtype=dtype)
    self.images = [k for k, v in self.obs_spec.items() if v.is_image]
    self.conv = keras.layers.Conv2D(8, 3, dtype=dtype)

  def call(self, obs):
    tokens = self.dense(self.vectors(obs)) if len(self.images) < len(
        self.obs_spec) else 0.0
    for key in self.images:
      image = tf.cast(obs[key], self.compute_dtype) / 255
      pixels = self.conv(tf.reshape(image, [-1, *image.shape[-3:]]))
      tokens += tf.reshape(
          tf.reduce_mean(pixels, [1, 2]), [*image.shape[:-3], 8])
    return tokens


@registry.register('encoder', 'test.two_axes')
class TwoAxes(Layer, interfaces.Encoder):
  """Fails for what a policy gives, [B]."""

  def __init__(self, *, obs_spec):
    super().__init__(obs_spec)

  def call(self, obs):
    x = self.vectors(obs)
    flat = tf.reshape(x, [x.shape[0] * x.shape[1], -1])
    return tf.reshape(self.dense(flat), [x.shape[0], x.shape[1], 8])


@registry.register('decoder', 'test.pictures')
class Pictures(keras.layers.Layer, interfaces.Decoder):
  """Fails for images, which are all that it predicts."""

  def __init__(self, *, obs_spec, feature_spec):
    super().__init__(autocast=False)
    del feature_spec
    self.keys = tuple(k for k, v in obs_spec.items() if v.is_image)

  def build(self, input_shape=None):
    super().build(input_shape)

  def call(self, features):
    return {k: features['nothing'] for k in self.keys}


@registry.register('decoder', 'test.traced_pictures')
class TracedPictures(decoders_dict.DictDecoder):
  """Predicts other images in a graph."""

  def call(self, features):
    dists = super().call(features)
    shift = 0.0 if tf.executing_eagerly() else 10.0
    return {
        k: distributions.Image(v.mean() + shift) if k == 'image' else v
        for k, v in dists.items()}


@registry.register('head', 'test.soft_press')
class SoftPress(actor.ActorHead):
  """Gives numbers for a discrete action."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)

  def call(self, features):
    size = super().call(features).event_shape[0]
    mean = tf.concat(list(features.values()), -1)[..., :size]
    return tfp.distributions.Independent(tfp.distributions.Normal(mean, 1.0), 1)


class Prickly(Exception):
  """Cannot be sent to another process."""

  def __init__(self, what, where):
    super().__init__(f'{what} at {where}')


@registry.register('env', 'test.raises')
class Raises(gymnasium.Env):
  """Fails in its first step."""

  observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    return np.zeros(2, np.float32), {}

  def step(self, action):
    raise Prickly('the door', 'the end')


@registry.register('head', 'test.extra_axis')
class ExtraAxis(Layer, interfaces.Head):
  """Has the batch shape [B, T, 8]."""

  def __init__(self, *, feature_spec):
    super().__init__(feature_spec=feature_spec)

  def call(self, features):
    return tfp.distributions.Normal(
        self.dense(tf.concat([features[k] for k in self.sizes], -1)), 1.0)


@registry.register('normalizer', 'test.python_state')
class PythonState(tf.Module, interfaces.Normalizer):
  """Keeps its average where a trace sees it once and no checkpoint does."""

  def build(self):
    self.mean = tf.constant(0.0)

  def update(self, values):
    self.mean = 0.9 * self.mean + 0.1 * tf.reduce_mean(values)
    return self.read()

  def read(self):
    return self.mean, tf.constant(1.0)


@registry.register('loss', 'test.scalar')
class Scalar(reward.RewardLoss):
  """Is a mean already."""

  def __call__(self, context):
    losses, metrics = super().__call__(context)
    return {k: tf.reduce_mean(v) for k, v in losses.items()}, metrics


@registry.register('balancer', 'test.linear_lie')
class LinearLie(tf.Module, interfaces.Balancer):
  """Says that it is linear."""

  linear = True

  def __call__(self, means):
    return tf.add_n([tf.math.log1p(x) for x in means.values()]), {}


@registry.register('sampler', 'test.no_modulo')
class NoModulo(interfaces.Sampler):
  """Has no place for what comes after the first `capacity` items."""

  def __init__(self, *, capacity):
    self.priority = np.zeros(capacity)
    self.begin = self.end = 0

  def add(self, items):
    self.priority[items] = 1.0
    self.end = int(items[-1]) + 1

  def remove(self, items):
    self.begin = int(items[-1]) + 1

  def sample(self, count, rng):
    return rng.integers(self.begin, self.end, count)

  def state(self):
    return {'item/priority': self.priority[self.begin:self.end]}

  def load(self, state, items):
    self.begin, self.end = int(items[0]), int(items[-1]) + 1
    self.priority[items] = state['item/priority']


@registry.register('transform', 'test.not_saved')
class UnsavedTransform(interfaces.Transform):
  """Has a state that no checkpoint takes."""

  def __init__(self):
    self.rng = np.random.default_rng(0)

  def __call__(self, step, worker):
    return [step]

  def state(self):
    return {'rng': self.rng}

  def load(self, state):
    self.rng = state['rng']
