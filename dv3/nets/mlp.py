"""Hidden layers and multi-layer perceptrons."""

import tensorflow as tf
import tf_keras as keras

from dv3 import errors
from dv3.nets import linear
from dv3.nets import norms
from dv3.nets import picking


def activation(name):
  """Returns an elementwise function by its Keras name, for example 'silu'.

  Raises:
    UserError: if Keras has no activation of this name.
  """
  if name == 'silu':
    return _silu
  try:
    return keras.activations.get(name)
  except ValueError as error:
    raise errors.UserError(
        f"there is no activation {name!r}; choose one of Keras's, 'silu', "
        "'elu', 'relu', 'tanh' ...") from error


def _silu(x):
  """Returns x * sigmoid(x), computed in float32.

  In bfloat16 XLA rounds after each of its steps, which costs more than they do.
  tf.nn.silu's own gradient recomputes sigmoid outside the graph's fusion.
  """
  y = tf.cast(x, tf.float32)
  return tf.cast(y * tf.sigmoid(y), x.dtype)


def normed(x, norm, act):
  """Returns act(norm(x)) for x [..., n], rounded to the norm's dtype once."""
  y = act(norm.compute(x, *norm.variables))
  return tf.cast(y, norm.compute_dtype)


def check_sizes(component: str, layers: int, units: int) -> None:
  """Refuses sizes of a perceptron that cannot be.

  Args:
    component: its gin name, for the message.
    layers: hidden layers, at least 0.
    units: width, at least 1.

  Raises:
    UserError: naming the argument as gin binds it.
  """
  errors.check_least(0, errors.named(component, layers=layers))
  errors.check_least(1, errors.named(component, units=units))


class Hidden(keras.layers.Layer):
  """One hidden layer: linear, norm, activation.

  Args:
    units: output size.
    norm: see `norms.make`.
    act: name of the activation.
    use_bias: whether the linear layer before the norm has a bias; true in the
      2025 form, false in the 2023 form.
    fan: see `initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.
  """

  def __init__(
      self, units, *, norm='rms', act='silu', use_bias=True, fan='in',
      **kwargs):
    super().__init__(autocast=False, **kwargs)
    dtype = kwargs.get('dtype')
    self.options = {
        'units': units, 'norm': norm, 'act': act, 'use_bias': use_bias,
        'fan': fan}
    self.linear = linear.Linear(
        units, use_bias=use_bias, fan=fan, dtype=dtype, name='linear')
    self.norm = norms.make(norm, dtype=dtype, name='norm')
    self.act = activation(act)

  def build(self, input_shape):
    self.linear.build(input_shape)
    self.norm.build([*input_shape[:-1], self.linear.units])
    super().build(input_shape)

  def call(self, x):
    return normed(self.linear(x), self.norm, self.act)

  def get_config(self):
    return {**super().get_config(), **self.options}


class MLP(keras.layers.Layer):
  """A stack of hidden layers of one width.

  Args:
    layers: how many; 0 is the identity.
    units: width of each.
    **kwargs: see `Hidden`.
  """

  def __init__(
      self, layers, units, *, norm='rms', act='silu', use_bias=True, fan='in',
      **kwargs):
    super().__init__(autocast=False, **kwargs)
    self.options = {
        'layers': layers, 'units': units, 'norm': norm, 'act': act,
        'use_bias': use_bias, 'fan': fan}
    self.hidden = [
        Hidden(
            units, norm=norm, act=act, use_bias=use_bias, fan=fan,
            dtype=kwargs.get('dtype'), name=f'hidden{i}')
        for i in range(layers)]

  def build(self, input_shape):
    shape = list(input_shape)
    for layer in self.hidden:
      layer.build(shape)
      shape = [*shape[:-1], layer.linear.units]
    super().build(input_shape)

  def call(self, x):
    pieces = linear.pieces_of(x)
    plain = [linear.values(piece) for piece in pieces]
    if not self.hidden:
      return tf.cast(tf.concat(plain, -1), self.compute_dtype)
    lead = linear.dynamic_shape(plain[0])[:-1]
    # As one matrix: under XLA on the CPU, sums over several axes are slow.
    x = [
        piece.rows() if isinstance(piece, picking.Picked)
        else tf.reshape(piece, [-1, piece.shape[-1]]) for piece in pieces]
    for layer in self.hidden:
      x = layer(x)
    return tf.reshape(x, [*lead, self.hidden[-1].linear.units])

  def get_config(self):
    return {**super().get_config(), **self.options}
