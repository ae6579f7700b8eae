"""The recurrent state-space model with a dense GRU, of 2023 and 2021."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import registry
from dv3.cores import categorical
from dv3.nets import linear
from dv3.nets import loops
from dv3.nets import mlp
from dv3.nets import norms
from dv3.nets import part
from dv3.nets import picking
from dv3.nets import products
from dv3.nets import recall

INITIAL = ('learned', 'zeros')


class _Weights(NamedTuple):
  """What a scan needs of the variables, made once outside of it."""

  stoch_in: tf.Tensor  # [S * C, U]
  action_in: tf.Tensor  # [A, U]
  cell: Any
  posterior_deter: tf.Tensor  # [D, U]
  initial: categorical.State  # leaves [1, ...]


@registry.register('core', 'gru')
class GRUCore(categorical.CategoricalCore):
  """The RSSM of the 2023 form, and with other options that of 2021.

    x = Hidden([stoch, a / max(1, |a|)])
    reset, candidate, update = thirds of LayerNorm([deter, x] W)
    deter' = u tanh(sigmoid(reset) candidate) + (1 - u) deter,  [B, D]
             u = sigmoid(update - 1)
    prior logits = Linear(Hidden(deter')),                    [B, S, C]
    posterior logits = Linear(Hidden([deter', tokens]))

  The norm in the cell covers all three gates together. Resets set the state to
  the initial one and the previous action to zeros. The learned initial state
  is deter = tanh(v) and the likeliest stoch of the prior there.

  Args:
    token_size: E.
    action_size: A, the length of the encoded action.
    deter: D.
    hidden: width of the hidden layers, U.
    stoch: latent groups, S.
    classes: classes per group, C.
    unimix: uniform share of latent probabilities.
    initial: 'learned', or 'zeros' as in the 2021 form.
    norm: of the hidden layers, see `nets.norms.make`; the cell has its own.
    act: activation name.
    use_bias: whether hidden layers have a bias before their norm.
    fan: see `nets.initializers.TruncatedNormal`.
    dtype: a Keras dtype policy.

  Raises:
    UserError: for another `initial`, sizes below 1 or a `unimix` outside of
      [0, 1].

  Source: Hafner et al. 2023 (arXiv v1), eq. 3; PyPI dreamerv3 1.5.0, `RSSM`;
    Hafner et al. 2021 (DreamerV2), eq. 1; danijar/dreamerv2 0216d33.
  """

  COMPONENT = 'core.gru'

  def __init__(
      self, *, token_size: int, action_size: int, deter: int = 4096,
      hidden: int = 1024, stoch: int = 32, classes: int = 32,
      unimix: float = 0.01, initial: str = 'learned', norm: str = 'layer',
      act: str = 'silu', use_bias: bool = False, fan: str = 'average',
      dtype: str = 'float32'):
    super().__init__(name='gru')
    errors.check_least(1, errors.named(
        self.COMPONENT, deter=deter, hidden=hidden, stoch=stoch,
        classes=classes))
    errors.check_within(0, 1, errors.named(self.COMPONENT, unimix=unimix))
    if initial not in INITIAL:
      raise errors.UserError(
          f'core.gru.initial is {initial!r}; it is one of {INITIAL}')
    self.token_size = token_size
    self.action_size = action_size
    self.deter = deter
    self.units = hidden
    self.stoch = stoch
    self.classes = classes
    self.unimix = unimix
    self.learned = initial == 'learned'
    self.dtype = dtype
    self.fan = fan
    hidden_layer = lambda name: mlp.Hidden(
        hidden, norm=norm, act=act, use_bias=use_bias, fan=fan, dtype=dtype,
        name=name)
    logits = lambda name: linear.Logits(
        (stoch, classes), fan=fan, dtype=dtype, name=name)
    self.input_hidden = hidden_layer('input')
    self.prior_hidden = hidden_layer('prior')
    self.prior_logits = logits('prior_logits')
    self.posterior_hidden = hidden_layer('posterior')
    self.posterior_logits = logits('posterior_logits')
    self.initial_deter: Any = None
    self.make_cell()
    self.built = False

  @part.once
  def build(self):
    """Makes every variable."""
    size = self.stoch * self.classes
    self.input_hidden.build([None, size + self.action_size])
    self.build_cell()
    self.prior_hidden.build([None, self.deter])
    self.prior_logits.build([None, self.units])
    self.posterior_hidden.build([None, self.deter + self.token_size])
    self.posterior_logits.build([None, self.units])
    if self.learned:
      self.initial_deter = tf.Variable(
          tf.zeros([self.deter]), name='initial_deter')
    self.built = True

  def initial(self, batch_size):
    """Returns the learned state, or zeros."""
    self.check_built()
    if not self.learned:
      return categorical.State(
          tf.zeros([batch_size, self.deter]),
          tf.zeros([batch_size, self.stoch, self.classes]))
    return tf.nest.map_structure(
        lambda x: tf.repeat(x, batch_size, 0), self._learned_state())

  def prior(self, deter):
    """Returns the prior's logits [..., S, C] float32 for deter [..., D]."""
    self.check_built()
    return tf.cast(self.prior_logits(self.prior_hidden(deter)), tf.float32)

  def weights(self) -> _Weights:
    """Cuts and casts the kernels of the scan."""
    self.check_built()
    kernel = self._cast(self.input_hidden.linear.kernel)
    size = self.stoch * self.classes
    return _Weights(
        kernel[:size], kernel[size:], self.cell_weights(),
        self._cast(self.posterior_hidden.linear.kernel)[:self.deter],
        self._learned_state() if self.learned else self.initial(1))

  def project(self, tokens, prev_action, is_first):
    """See `CategoricalCore.project`."""
    reset = tf.cast(is_first, tf.bool)[..., None]
    kernel = self._cast(self.posterior_hidden.linear.kernel)[self.deter:]
    # Numbers, and not a cast alone, before which TensorFlow would transpose:
    # oneDNN cannot transpose a bool, and says so.
    return (
        linear.dense_product(self._cast(tokens), kernel),
        tf.where(reset, 0.0, tf.cast(prev_action, tf.float32)),
        1.0 - tf.cast(reset, tf.float32))

  def filter_step(self, weights, inputs, state, rng):
    """See `CategoricalCore.filter_step`."""
    token, action, keep = inputs
    reset = keep == 0.0
    start = weights.initial
    # Not a product with 0, which would keep what is not finite.
    deter = tf.where(reset, start.deter, state.deter)
    stoch = tf.where(reset[..., None], start.stoch, state.stoch)
    deter = self._advance(weights, deter, stoch, action)
    x = token + recall.kept(
        products.matmul(self._cast(deter), weights.posterior_deter))
    x = _after(self.posterior_hidden, x)
    return self.result(deter, self.posterior_logits(x), rng)

  def predict_step(self, weights, action, state, rng):
    """See `CategoricalCore.predict_step`."""
    deter = self._advance(weights, state.deter, state.stoch, action)
    return self.result(deter, self.prior(deter), rng)

  def make_cell(self) -> None:
    """Makes the cell's layers."""
    self.gates = linear.Linear(
        3 * self.deter, use_bias=False, fan=self.fan, dtype=self.dtype,
        name='gates')
    self.gates_norm = norms.make(
        'layer', dtype=self.dtype, name='gates_norm')

  def build_cell(self) -> None:
    """Makes the cell's variables."""
    self.gates.build([None, self.deter + self.units])
    self.gates_norm.build([None, 3 * self.deter])

  def cell_weights(self):
    """Returns what `cell` needs of the variables, made once a scan."""
    return self._cast(self.gates.kernel)

  def cell(self, weights, deter, x):
    """Returns the next deter [B, D] float32 for an input x [B, U]."""
    joint = tf.concat([self._cast(deter), x], -1)
    gates = self.gates_norm(recall.kept(products.matmul(joint, weights)))
    reset, candidate, update = tf.split(tf.cast(gates, tf.float32), 3, -1)
    update = tf.sigmoid(update - 1.0)
    candidate = tf.tanh(tf.sigmoid(reset) * candidate)
    return update * candidate + (1.0 - update) * deter

  def _advance(self, weights, deter, stoch, action):
    """Returns the next deter [B, D] float32."""
    bound = tf.stop_gradient(tf.maximum(1.0, tf.abs(action)))
    x = linear.piece_product(
        picking.pick(categorical.flat(stoch), self.classes), weights.stoch_in,
        products.matmul(self._cast(action / bound), weights.action_in))
    return self.cell(weights.cell, deter, _after(self.input_hidden, x))

  def _learned_state(self) -> categorical.State:
    """Returns the learned initial state, leaves [1, ...]."""
    deter = tf.tanh(self.initial_deter)[None]
    stoch = distributions.OneHot(self.prior(deter), self.unimix).mode()
    return categorical.State(deter, stoch)

  def _cast(self, x):
    return tf.cast(x, self.gates.compute_dtype)


def _after(layer, x):
  """Applies what follows the product in a hidden layer."""
  if layer.linear.bias is not None:
    x = tf.nn.bias_add(x, loops.cast(layer.linear.bias, x.dtype))
  return mlp.normed(x, layer.norm, layer.act)
