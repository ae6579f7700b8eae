"""The recurrent state-space model of RLlib, with a plain Keras GRU."""

import tensorflow as tf
import tf_keras as keras

from dv3 import registry
from dv3.cores import gru
from dv3.nets import products
from dv3.nets import recall


@registry.register('core', 'rllib_gru')
class RLlibGRUCore(gru.GRUCore):
  """The 2023 form with the cell of RLlib's TensorFlow implementation.

    z, r, h = thirds of x W + b;   z', r', h' = thirds of deter U + b'
    z = sigmoid(z + z'),  r = sigmoid(r + r'),  h = tanh(h + r h')
    deter' = z deter + (1 - z) h

  that is, the Keras GRU with `reset_after`: no norm inside, no shift of the
  update gate, and biases of its own. It has as many parameters as the
  authors' cell. Everything else, shapes included, is `core.gru`: deter [B, D],
  x [B, hidden], W [hidden, 3 D], U [D, 3 D].

  Args:
    token_size: E.
    action_size: A, the length of the encoded action.
    deter: D.
    hidden: width of the hidden layers.
    stoch: latent groups, S.
    classes: classes per group, C.
    unimix: uniform share of latent probabilities.
    initial: 'learned' or 'zeros'.
    norm: of the hidden layers, see `nets.norms.make`.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for another `initial`, norm, activation or fan.

  Source: RLlib, ray 2.9.3, `rllib/algorithms/dreamerv3/tf/models`; Cho et al.
    2014, https://arxiv.org/abs/1406.1078.
  """

  COMPONENT = 'core.rllib_gru'

  def make_cell(self):
    self.gates = keras.layers.GRUCell(
        self.deter, reset_after=True, dtype=self.dtype, name='gates')

  def build_cell(self):
    self.gates.build([None, self.units])

  def cell_weights(self):
    return tuple(self._cast(x) for x in (
        self.gates.kernel, self.gates.recurrent_kernel, self.gates.bias))

  def cell(self, weights, deter, x):
    kernel, recurrent, bias = weights
    product = lambda x, kernel: recall.kept(products.matmul(x, kernel))
    inputs = tf.cast(product(x, kernel) + bias[0], tf.float32)
    memory = tf.cast(
        product(self._cast(deter), recurrent) + bias[1], tf.float32)
    z, r, h = tf.split(inputs, 3, -1)
    z_memory, r_memory, h_memory = tf.split(memory, 3, -1)
    update = tf.sigmoid(z + z_memory)
    candidate = tf.tanh(h + tf.sigmoid(r + r_memory) * h_memory)
    return update * deter + (1.0 - update) * candidate
