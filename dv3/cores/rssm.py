"""The recurrent state-space model with a block-diagonal GRU."""

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from dv3 import errors
from dv3 import registry
from dv3.cores import categorical
from dv3.nets import linear
from dv3.nets import loops
from dv3.nets import mlp
from dv3.nets import part
from dv3.nets import picking
from dv3.nets import products
from dv3.nets import recall


class _Weights(NamedTuple):
  """Kernels of one scan, cut and cast once outside of it."""

  hidden_block: tf.Tensor  # [G, D/G, D/G]
  hidden_shared: tf.Tensor  # [2U, D]
  gates: tf.Tensor  # [G, D/G, 3D/G]
  posterior_deter: tf.Tensor | None  # [D, U]


@registry.register('core', 'rssm')
class RSSM(categorical.CategoricalCore):
  """The RSSM of the 2025 form: block GRU, unimix categorical latents.

    x0, x1, x2 = Hidden(deter), Hidden(stoch), Hidden(a / max(1, |a|))
    h = act(norm(BlockLinear(each block: [deter piece, x0, x1, x2])))
    reset, candidate, update = BlockLinear(h), cut inside each block
    deter' = u tanh(sigmoid(reset) candidate) + (1 - u) deter,  [B, D]
             u = sigmoid(update - 1)
    prior logits = Linear(MLP(deter')),                       [B, S, C]
    posterior logits = Linear(MLP([deter', tokens]))

  Resets set deter, stoch and the previous action to zeros. The action's
  denominator carries no gradient.

  Args:
    token_size: E.
    action_size: A, the length of the encoded action.
    deter: D.
    hidden: width of the hidden layers, U.
    stoch: latent groups, S.
    classes: classes per group, C.
    blocks: G, must divide D.
    unimix: uniform share of latent probabilities.
    prior_layers: hidden layers of the prior.
    posterior_layers: hidden layers of the posterior, at least 1.
    absolute: whether the posterior sees only the tokens.
    norm: see `nets.norms.make`.
    act: activation name.
    dtype: a Keras dtype policy.

  Raises:
    UserError: if `blocks` does not divide `deter`, or for sizes below 1
      (`prior_layers`: below 0) or a `unimix` outside of [0, 1].

  Source: Hafner et al., Nature 2025; danijar/dreamerv3 e3f0224, `RSSM`.
  """

  COMPONENT = 'core.rssm'

  def __init__(
      self, *, token_size: int, action_size: int, deter: int = 8192,
      hidden: int = 1024, stoch: int = 32, classes: int = 64, blocks: int = 8,
      unimix: float = 0.01, prior_layers: int = 2, posterior_layers: int = 1,
      absolute: bool = False, norm: str = 'rms', act: str = 'silu',
      dtype: str = 'float32'):
    super().__init__(name='rssm')
    errors.check_least(1, errors.named(
        self.COMPONENT, deter=deter, hidden=hidden, stoch=stoch,
        classes=classes, blocks=blocks, posterior_layers=posterior_layers))
    errors.check_least(
        0, errors.named(self.COMPONENT, prior_layers=prior_layers))
    errors.check_within(0, 1, errors.named(self.COMPONENT, unimix=unimix))
    if deter % blocks:
      raise errors.UserError(
          f'core.rssm.blocks is {blocks}, which does not divide '
          f'core.rssm.deter, {deter}; change one of them')
    self.token_size = token_size
    self.action_size = action_size
    self.deter = deter
    self.hidden = hidden
    self.stoch = stoch
    self.classes = classes
    self.blocks = blocks
    self.unimix = unimix
    self.absolute = absolute
    self.act = mlp.activation(act)
    kwargs: dict[str, Any] = {'norm': norm, 'act': act, 'dtype': dtype}
    self.deter_in = mlp.Hidden(hidden, name='deter_in', **kwargs)
    self.stoch_in = mlp.Hidden(hidden, name='stoch_in', **kwargs)
    self.action_in = mlp.Hidden(hidden, name='action_in', **kwargs)
    # The kernel of this block layer also holds the rows that every block
    # shares; they are applied as one dense product, see `weights`.
    self.hidden_block = linear.BlockLinear(deter, blocks, dtype=dtype)
    self.hidden_norm = mlp.norms.make(norm, dtype=dtype)
    self.gates = linear.BlockLinear(3 * deter, blocks, dtype=dtype)
    self.prior_mlp = mlp.MLP(prior_layers, hidden, **kwargs)
    self.prior_logits = linear.Logits((stoch, classes), dtype=dtype)
    self.posterior_first = mlp.Hidden(
        hidden, name='posterior_first', **kwargs)
    self.posterior_mlp = mlp.MLP(posterior_layers - 1, hidden, **kwargs)
    self.posterior_logits = linear.Logits((stoch, classes), dtype=dtype)
    self.built = False

  @part.once
  def build(self):
    """Makes every variable."""
    flat = self.stoch * self.classes
    self.deter_in.build([None, self.deter])
    self.stoch_in.build([None, flat])
    self.action_in.build([None, self.action_size])
    shared = 3 * self.hidden * self.blocks
    self.hidden_block.build([None, self.deter + shared])
    self.hidden_norm.build([None, self.deter])
    self.gates.build([None, self.deter])
    self.prior_mlp.build([None, self.deter])
    self.prior_logits.build([
        None, self.hidden if self.prior_mlp.hidden else self.deter])
    self.posterior_first.build([
        None, self.token_size + (0 if self.absolute else self.deter)])
    self.posterior_mlp.build([None, self.hidden])
    self.posterior_logits.build([None, self.hidden])
    self.built = True

  def initial(self, batch_size):
    """Returns zeros."""
    return categorical.State(
        tf.zeros([batch_size, self.deter]),
        tf.zeros([batch_size, self.stoch, self.classes]))

  def prior(self, deter):
    """Returns the prior's logits [..., S, C] float32 for deter [..., D]."""
    self.check_built()
    return tf.cast(self.prior_logits(self.prior_mlp(deter)), tf.float32)

  @property
  def _dtype(self):
    return self.gates.compute_dtype

  def weights(self) -> _Weights:
    """Cuts and casts the kernels of the scan."""
    self.check_built()
    cast = lambda x: tf.cast(x, self._dtype)
    size = self.deter // self.blocks
    kernel = cast(self.hidden_block.kernel)
    return _Weights(
        kernel[:, :size], self._dense(kernel[:, size: size + 2 * self.hidden]),
        cast(self.gates.kernel),
        None if self.absolute else cast(
            self.posterior_first.linear.kernel)[:self.deter])

  def _dense(self, kernel):
    """Joins the blocks' rows [G, i, D/G] for a shared input to [i, D]."""
    kernel = tf.transpose(kernel, [1, 0, 2])
    return tf.reshape(kernel, [kernel.shape[0], self.deter])

  def project(self, tokens, prev_action, is_first):
    """See `CategoricalCore.project`."""
    reset = tf.cast(is_first, tf.bool)[..., None]
    action = self._action_part(
        tf.where(reset, 0.0, tf.cast(prev_action, tf.float32)))
    first = self.posterior_first.linear
    kernel = tf.cast(first.kernel, self._dtype)
    kernel = kernel if self.absolute else kernel[self.deter:]
    token = linear.dense_product(tf.cast(tokens, self._dtype), kernel)
    token = token + tf.cast(first.bias, self._dtype)
    # Numbers, and not a cast alone, before which TensorFlow would transpose:
    # oneDNN cannot transpose a bool, and says so.
    return token, action, 1.0 - tf.cast(reset, tf.float32)

  def _action_part(self, action):
    """Returns what an action [..., A] adds before the hidden norm, [..., D]."""
    size = self.deter // self.blocks
    bound = tf.stop_gradient(tf.maximum(1.0, tf.abs(action)))
    block = self.hidden_block
    kernel = loops.once(
        (block.kernel.ref(), self._dtype, 'action'), lambda: self._dense(
            tf.cast(block.kernel, self._dtype)[:, size + 2 * self.hidden:]))
    part = linear.dense_product(self.action_in(action / bound), kernel)
    return part + loops.cast(block.bias, self._dtype)

  def filter_step(self, weights, inputs, state, rng):
    """See `CategoricalCore.filter_step`."""
    token, action, keep = inputs
    reset = keep == 0.0
    # Not a product with 0, which would keep what is not finite.
    deter = self._advance(
        weights, tf.where(reset, 0.0, state.deter),
        tf.where(reset[..., None], 0.0, state.stoch), action)
    x = token
    if weights.posterior_deter is not None:
      x += recall.kept(products.matmul(
          tf.cast(deter, self._dtype), weights.posterior_deter))
    x = mlp.normed(x, self.posterior_first.norm, self.act)
    logits = self.posterior_logits(self.posterior_mlp(x))
    return self.result(deter, logits, rng)

  def observe_step(self, tokens, prev_action, is_first, state, rng):
    """See `interfaces.Core.observe_step`.

    With whole kernels: to cut and rearrange them, as a scan does once, takes
    several times as long as one step.
    """
    self.check_built()
    self.check_inputs(tokens, prev_action, is_first, state)
    reset = tf.cast(is_first, tf.bool)[..., None]
    deter = tf.where(reset, 0.0, state.deter)
    stoch = tf.where(reset[..., None], 0.0, state.stoch)
    action = tf.where(reset, 0.0, tf.cast(prev_action, tf.float32))
    action /= tf.stop_gradient(tf.maximum(1.0, tf.abs(action)))
    compute = tf.cast(deter, self._dtype)
    shared = tf.concat([
        self.deter_in(compute), self.stoch_in(categorical.flat(stoch)),
        self.action_in(action)], -1)
    x = tf.concat([
        linear.to_blocks(compute, self.blocks),
        tf.repeat(shared[None], self.blocks, 0)], -1)
    x = linear.from_blocks(
        products.matmul(x, tf.cast(self.hidden_block.kernel, self._dtype)))
    x += tf.cast(self.hidden_block.bias, self._dtype)
    deter = self._gated(x, tf.cast(self.gates.kernel, self._dtype), deter)
    x = tokens if self.absolute else tf.concat([
        tf.cast(deter, self._dtype), tf.cast(tokens, self._dtype)], -1)
    logits = self.posterior_logits(self.posterior_mlp(self.posterior_first(x)))
    return self.result(deter, logits, rng)

  def predict_step(self, weights, action, state, rng):
    """See `CategoricalCore.predict_step`."""
    deter = self._advance(
        weights, state.deter, state.stoch, self._action_part(action))
    return self.result(deter, self.prior(deter), rng)

  def _advance(self, weights, deter, stoch, action):
    """The block GRU: returns the next deter [B, D] float32."""
    compute = tf.cast(deter, self._dtype)
    shared = tf.concat(
        [self.deter_in(compute), self.stoch_in(
            picking.pick(categorical.flat(stoch), self.classes))], -1)
    x = linear.block_matmul(compute, weights.hidden_block)
    x += recall.kept(products.matmul(shared, weights.hidden_shared)) + action
    return self._gated(x, weights.gates, deter)

  def _gated(self, x, kernel, deter):
    """The GRU after its hidden layer's product x [B, D]: the next deter."""
    x = mlp.normed(x, self.hidden_norm, self.act)
    # Block by block, [G, B, D / G], up to the new state: XLA vectorises none of
    # the exponentials where it can fuse them with a transposition.
    x = recall.kept(
        products.unrounded_matmul(linear.to_blocks(x, self.blocks), kernel), 1)
    x += tf.reshape(
        loops.cast(self.gates.bias, x.dtype), [self.blocks, 1, -1])
    reset, candidate, update = tf.split(tf.cast(x, tf.float32), 3, -1)
    update = tf.sigmoid(update - 1.0)
    candidate = tf.tanh(tf.sigmoid(reset) * candidate)
    deter = linear.to_blocks(deter, self.blocks)
    return linear.from_blocks(update * candidate + (1.0 - update) * deter)
