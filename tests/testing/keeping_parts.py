"""Components that keep their contract, in ways that the library's do not."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras

from dv3 import interfaces
from dv3 import registry
from dv3.cores import base
from dv3.cores import rssm
from dv3.losses import reward
from dv3.nets import inputs


@registry.register('optimizer', 'test.keras')
def plain(learning_rate=0.1):
  return keras.optimizers.Adam(learning_rate)


@registry.register('loss', 'test.next')
class Next(reward.RewardLoss):
  def __call__(self, context):
    features = {k: v[:, :-1] for k, v in context.features.items()}
    dist = context.parts['reward'](features)
    return {'reward': -dist.log_prob(context.reward[:, 1:])}, {}


@registry.register('core', 'test.fine')
class Fine(rssm.RSSM):
  pass


@registry.register('core', 'test.own_keys')
class OwnKeys(rssm.RSSM):
  """Names its draws otherwise than the library's cores."""

  def imagine(self, policy, state, horizon, rng):
    latents, actions = [], []
    for t in range(horizon):
      actions.append(policy(self.features(state), rng.fold('act').at(t)))
      latent, state = self.imagine_step(
          actions[-1], state, rng.fold('dream').at(t))
      latents.append(latent)
    stack = lambda *x: tf.stack(x, 1)
    return tf.nest.map_structure(stack, *latents), stack(*actions), state


@registry.register('core', 'test.memory')
class Memory(tf.Module, interfaces.Core):
  """An RSSM with a memory that replay does not store; `starts` keeps it."""

  def __init__(
      self, *, token_size, action_size, deter=16, hidden=8, stoch=4,
      classes=4, blocks=4, dtype='float32'):
    super().__init__(name='memory')
    self.inner = rssm.RSSM(
        token_size=token_size, action_size=action_size, deter=deter,
        hidden=hidden, stoch=stoch, classes=classes, blocks=blocks,
        dtype=dtype)
    self.deter = deter
    self.feature_spec = {**self.inner.feature_spec, 'memory': deter}
    self.replay_spec = self.inner.replay_spec

  observe = base.RecurrentCore.observe
  imagine = base.RecurrentCore.imagine

  def build(self):
    self.inner.build()

  def initial(self, batch_size):
    return {
        'inner': self.inner.initial(batch_size),
        'memory': tf.zeros([batch_size, self.deter])}

  def observe_step(self, tokens, prev_action, is_first, state, rng):
    latent, _ = self.inner.observe_step(
        tokens, prev_action, is_first, state['inner'], rng)
    return self._remember(
        latent, tf.where(is_first[:, None], 0.0, state['memory']))

  def imagine_step(self, action, state, rng):
    latent, _ = self.inner.imagine_step(action, state['inner'], rng)
    return self._remember(latent, state['memory'])

  def _remember(self, latent, memory):
    deter = self.inner.features(latent)['deter']
    latent = {'inner': latent, 'memory': 0.9 * memory + deter}
    return latent, {
        'inner': self.inner.state_from_replay(
            self.inner.replay_entry(latent['inner'])),
        'memory': latent['memory']}

  def starts(self, latents):
    return {
        'inner': base.starts(self.inner, latents['inner']),
        'memory': base.flat(latents['memory'])}

  def features(self, latents):
    return {
        **self.inner.features(latents['inner']), 'memory': latents['memory']}

  def kl(self, latents):
    return self.inner.kl(latents['inner'])

  def replay_entry(self, latents):
    return self.inner.replay_entry(latents['inner'])

  def state_from_replay(self, entry):
    state = self.inner.state_from_replay(entry)
    count = tf.shape(tf.nest.flatten(state)[0])[0]
    memory = tf.ensure_shape(
        tf.zeros([count, self.deter]),
        [tf.nest.flatten(state)[0].shape[0], self.deter])
    return {'inner': state, 'memory': memory}


class SmallHead(keras.layers.Layer):
  """A head of one layer."""

  def __init__(self, *, feature_spec, size, dtype):
    super().__init__(autocast=False, dtype=dtype)
    self.sizes = dict(feature_spec)
    self.dense = keras.layers.Dense(size)

  def build(self, input_shape=None):
    self.dense.build([None, sum(self.sizes.values())])
    super().build(input_shape)

  def out(self, features):
    return self.dense(tf.concat([features[k] for k in self.sizes], -1))


@registry.register('head', 'test.bernoulli')
class Bernoulli(SmallHead, interfaces.Head):
  """Has a distribution of TFP whose mode is an integer."""

  def __init__(self, *, feature_spec, dtype='float32'):
    super().__init__(feature_spec=feature_spec, size=1, dtype=dtype)

  def call(self, features):
    return tfp.distributions.Bernoulli(logits=self.out(features)[..., 0])


@registry.register('head', 'test.mixture')
class Mixture(SmallHead, interfaces.Head):
  """Has a distribution without a mode."""

  def __init__(self, *, feature_spec, dtype='float32'):
    super().__init__(feature_spec=feature_spec, size=9, dtype=dtype)

  def call(self, features):
    weights, means, scales = tf.split(self.out(features), 3, -1)
    return tfp.distributions.MixtureSameFamily(
        tfp.distributions.Categorical(logits=weights),
        tfp.distributions.Normal(means, tf.nn.softplus(scales) + 0.1))


@registry.register('head', 'test.squashed')
class Squashed(SmallHead, interfaces.Head):
  """Has a distribution with neither mode nor mean."""

  def __init__(self, *, feature_spec, dtype='float32'):
    super().__init__(feature_spec=feature_spec, size=1, dtype=dtype)

  def call(self, features):
    mean = self.out(features)[..., 0]
    return tfp.distributions.TransformedDistribution(
        tfp.distributions.Normal(mean, 1.0), tfp.bijectors.Tanh())


@registry.register('core', 'test.passes_on')
class PassesOn(rssm.RSSM):
  """Takes what the library gives by `**kwargs`."""

  def __init__(self, *, deter: int = 16, **kwargs):
    super().__init__(
        deter=deter, hidden=8, stoch=4, classes=4, blocks=4, **kwargs)


@registry.register('encoder', 'test.counting')
class Counting(keras.layers.Layer, interfaces.Encoder):
  """Has sizes that are tuples, and an integer among its variables."""

  def __init__(self, *, obs_spec, units: tuple[int, ...] = (16, 12)):
    super().__init__(autocast=False)
    if any(spec.is_image for spec in obs_spec.values()):
      raise ValueError('no images')
    self.spec = dict(obs_spec)
    self.layers_ = [keras.layers.Dense(size) for size in units]
    self.token_size = units[-1]

  def build(self, input_shape=None):
    self.count = tf.Variable(0, trainable=False, dtype=tf.int64)
    size = sum(spec.encoded_size for spec in self.spec.values())
    for layer in self.layers_:
      layer.build([None, size])
      size = layer.units
    super().build(input_shape)

  def call(self, obs):
    x = inputs.vectors(obs, self.spec, symlog=True)
    for layer in self.layers_:
      x = layer(x)
    return x


@registry.register('encoder', 'test.plain')
class Plain(keras.layers.Layer, interfaces.Encoder):
  """Hands numbers on; there is nothing to learn."""

  def __init__(self, *, obs_spec):
    super().__init__(autocast=False)
    if any(spec.is_image for spec in obs_spec.values()):
      raise ValueError('no images')
    self.spec = dict(obs_spec)
    self.token_size = sum(spec.encoded_size for spec in obs_spec.values())

  def build(self, input_shape=None):
    super().build(input_shape)

  def call(self, obs):
    return inputs.vectors(obs, self.spec, symlog=True)


@registry.register('loss', 'test.float_metric')
class FloatMetric(reward.RewardLoss):
  """Has a Python number for a metric."""

  def __call__(self, context):
    losses, _ = super().__call__(context)
    return losses, {'weight': 0.5}


@registry.register('balancer', 'test.leaves_out')
class LeavesOut(tf.Module, interfaces.Balancer):
  """Does not train on the reward."""

  def __call__(self, means):
    return tf.add_n([v for k, v in means.items() if k != 'reward']), {}


@registry.register('optimizer', 'test.decays')
def decays(learning_rate=1e-3):
  return keras.optimizers.AdamW(learning_rate)


@registry.register('transform', 'test.action_cost')
class ActionCost(interfaces.Transform):
  """Makes actions cost reward, and observations smaller."""

  def __call__(self, step, worker):
    cost = np.float32(0.1) * np.square(step['action']).sum()
    return [{
        **step, 'reward': np.float32(step['reward'] - cost),
        'observation': np.tanh(step['observation'])}]
