"""A component of a third party: an encoder that sees sines of numbers."""

import math

import tensorflow as tf
import tf_keras as keras

from dv3 import interfaces
from dv3 import registry
from dv3 import types
from dv3.nets import inputs
from dv3.nets import mlp


@registry.register('encoder', 'acme.sines')
class SinesEncoder(keras.layers.Layer, interfaces.Encoder):
  """Encodes numbers by sines and cosines of several frequencies, then an MLP.

    x = all numbers, joined; class indices one-hot
    tokens = MLP([x, sin(2^k pi x), cos(2^k pi x) for k < frequencies])

  Args:
    obs_spec: entries of numbers and class indices.
    frequencies: octaves, from half a period per unit on.
    layers: hidden layers, at least 1.
    units: width, and the size of a token.
    dtype: a Keras dtype policy.

  Source: Tancik et al. 2020, "Fourier features let networks learn high
  frequency functions", section 4.
  """

  def __init__(
      self, *, obs_spec: types.Specs, frequencies: int = 4, layers: int = 2,
      units: int = 256, dtype: str = 'float32'):
    super().__init__(autocast=False, dtype=dtype)
    self.obs_spec = types.freeze(obs_spec)
    self.frequencies = frequencies
    self.token_size = units
    self.mlp = mlp.MLP(layers, units, dtype=dtype)

  def build(self, input_shape=None):
    size = sum(spec.encoded_size for _, spec in self.obs_spec)
    self.mlp.build([None, size * (1 + 2 * self.frequencies)])
    super().build(input_shape)

  def call(self, obs):
    x = inputs.vectors(obs, dict(self.obs_spec), symlog=True)
    angles = [2 ** k * math.pi * x for k in range(self.frequencies)]
    waves = [wave(angle) for angle in angles for wave in (tf.sin, tf.cos)]
    return self.mlp(tf.concat([x, *waves], -1))
