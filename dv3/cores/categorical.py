"""What cores with categorical latents share."""

import math
from typing import NamedTuple

import tensorflow as tf

from dv3 import distributions
from dv3 import errors
from dv3 import interfaces
from dv3 import types
from dv3.cores import base
from dv3.nets import linear
from dv3.nets import loops
from dv3.nets import picking
from dv3.nets import recall


class State(NamedTuple):
  """What the core carries from step to step.

  Attributes:
    deter: [B, D] float32, the recurrent state.
    stoch: [B, S, C] float32, one-hot.
  """

  deter: tf.Tensor
  stoch: tf.Tensor


class Latents(NamedTuple):
  """What the core says about each step.

  Attributes:
    deter: [..., D] float32.
    stoch: [..., S, C] float32, a one-hot sample with the gradient of the
      probabilities (straight-through).
    logits: [..., S, C] float32 before the uniform mix, of the posterior after
      `observe`, of the prior after `imagine`.
  """

  deter: tf.Tensor
  stoch: tf.Tensor
  logits: tf.Tensor


class _Given:
  """A key whose draw is known."""

  def __init__(self, sample):
    self._sample = sample

  def sample(self, distribution):
    """Returns what was drawn before."""
    del distribution
    return self._sample


class CategoricalCore(base.RecurrentCore, interfaces.Core):
  """A recurrent core with a deterministic state and categorical latents.

  Subclasses set `token_size`, `action_size`, `deter`, `stoch`, `classes`,
  `unimix` and `built`, and define `build`, `initial`, `prior` and the four
  methods below, which keep out of the scans what needs no state: kernels are
  cut and cast once (`weights`), and all steps' tokens and actions are projected
  at once (`project`).

  `filter_step` is evaluated for single steps of B rows and for all T * B at
  once, and the gradient of a step takes over what the layers of this library
  made of all rows (see `nets.recall`). So it calls the same layers each time,
  with the batch as the first axis; others under `recall.paused()`.
  """

  COMPONENT = 'core'
  token_size: int
  action_size: int
  deter: int
  stoch: int
  classes: int
  unimix: float
  built: bool

  def check_built(self) -> None:
    """Raises a UserError if the core is not built."""
    if not self.built:
      raise errors.UserError(
          f'{self.COMPONENT} is not built; call its build() first')

  def check_inputs(self, tokens, prev_action, is_first, state) -> None:
    """Refuses inputs of other sizes than it was made for, or than each other's.

    Args:
      tokens: [B, T, E], or [B, E] of one step.
      prev_action: [B, T, A] or [B, A].
      is_first: [B, T] or [B].
      state: leaves [B, ...].

    Raises:
      UserError: for what would be broadcast, or end in an error of TensorFlow.
    """
    for name, value, size in (
        ('token', tokens, self.token_size),
        ('action', prev_action, self.action_size)):
      if value.shape[-1] not in (None, size):
        raise errors.UserError(
            f'{self.COMPONENT} got {name}s of {value.shape[-1]} numbers, but '
            f'was made with {name}_size {size}; make both the same')
    lead = tf.TensorShape(tokens.shape[:-1])
    if lead.rank == 2 and lead[1] is None:
      raise errors.UserError(
          f'{self.COMPONENT} got tokens {tokens.shape}; the number of steps, '
          'their second axis, must be known when a graph is traced')
    for name, shape in (
        ('prev_action', prev_action.shape[:-1]), ('is_first', is_first.shape)):
      if not lead.is_compatible_with(shape):
        raise errors.UserError(
            f'{self.COMPONENT} got {name} for {tuple(shape)} steps and tokens '
            f'for {tuple(lead)}; make both the same')
    if not isinstance(state, tuple) or len(state) != len(State._fields):
      raise errors.UserError(
          f'{self.COMPONENT} got a state of type {type(state).__name__}; give '
          'what initial(), observe() or state_from_replay() return')
    own = State([self.deter], [self.stoch, self.classes])
    for name, size, leaf in zip(State._fields, own, state, strict=True):
      if not tf.TensorShape([lead[0], *size]).is_compatible_with(leaf.shape):
        raise errors.UserError(
            f'{self.COMPONENT} got a state whose {name} is {leaf.shape} for '
            f'{lead[0]} sequences; it is [{lead[0]}, '
            f'{", ".join(map(str, size))}], see initial()')

  def checked_action(self, action):
    """Returns a policy's action [B, A] as float32.

    Raises:
      UserError: for one of another size.
    """
    action = tf.cast(action, tf.float32)
    if action.shape.rank != 2 or action.shape[-1] not in (
        None, self.action_size):
      raise errors.UserError(
          f'{self.COMPONENT} got an action {tuple(action.shape)} of the '
          f'policy; it is [B, {self.action_size}], one-hot where it is '
          'discrete')
    return action

  @property
  def trainable_variables(self):
    self.check_built()  # Nothing would be trained, and nobody would know.
    return super().trainable_variables

  @property
  def feature_spec(self) -> dict[str, int]:
    """The sizes of `deter` and flat `stoch`, which is one-hot."""
    return {
        'deter': self.deter,
        'stoch': types.OneHotSize(self.stoch * self.classes, self.classes)}

  @property
  def replay_spec(self) -> types.Specs:
    """One step's entry: deter float32 [D], stoch as class indices [S]."""
    small = 'uint8' if self.classes <= 256 else 'int32'
    return {
        'deter': types.Spec((self.deter,), 'float32'),
        'stoch': types.Spec(
            (self.stoch,), small, (self.classes,) * self.stoch)}

  def weights(self):
    """Returns what single steps need of the variables, made once a scan.

    Raises:
      UserError: if the core is not built.
    """
    raise NotImplementedError

  def project(self, tokens, prev_action, is_first):
    """Computes what does not depend on the state, with any leading axes.

    Args:
      tokens: [..., E].
      prev_action: [..., A].
      is_first: [...] bool.

    Returns:
      A nest of [..., n], the inputs of `filter_step`.
    """
    raise NotImplementedError

  def filter_step(self, weights, inputs, state, rng):
    """One step with the posterior; returns (Latents, State)."""
    raise NotImplementedError

  def predict_step(self, weights, action, state, rng):
    """One step with the prior; returns (Latents, State)."""
    raise NotImplementedError

  def prior(self, deter):
    """Returns the prior's logits [..., S, C] float32 for deter [..., D]."""
    raise NotImplementedError

  def observe(self, tokens, prev_action, is_first, state, rng):
    """See `interfaces.Core.observe`; what needs no state leaves the scan.

    A scan computes values alone. What has gradients is one evaluation of all
    steps at once, from the states that the scan found and with its samples, and
    a second scan backwards in time brings its results' gradients from state to
    state, with the products that all steps at once made. So kernels get their
    gradients from one product in place of T, and the first loop stores nothing
    for the second.
    """
    self.check_inputs(tokens, prev_action, is_first, state)
    weights = self.weights()
    # [T, B, ...] from here on, so that steps lie one after the other.
    inputs = tf.nest.map_structure(
        base.swap, self.project(tokens, prev_action, is_first))
    length = tokens.shape[1]
    def step(t, inputs, state):
      return self.filter_step(weights, inputs, state, rng.at(t))
    with loops.looping():
      values, last = tf.nest.map_structure(
          tf.stop_gradient, base.scan_major(step, inputs, state, length))
    before = tf.nest.map_structure(
        lambda first, rest: tf.concat([first[None], rest[:-1]], 0),
        state, State(values.deter, values.stoch))
    before = tf.nest.map_structure(tf.stop_gradient, before)
    products = recall.Kept()
    with products.keeping():
      at_once, _ = self.filter_step(
          weights, base.flat(inputs), base.flat(before),
          _Given(base.flat(values.stoch)))
    shape = linear.dynamic_shape(values.deter)[:2]
    at_once = tf.nest.map_structure(
        lambda x: tf.reshape(x, [*shape, *x.shape[1:]]), at_once)

    def back(t, now, state_gradient):
      """Takes the gradient of the state after a step to the one before it."""
      inputs, before, sample, upstream = now
      upstream = upstream._replace(
          deter=upstream.deter + state_gradient.deter,
          stoch=upstream.stoch + state_gradient.stoch)
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(before)
        with products.recalling(t, length):
          result, _ = self.filter_step(weights, inputs, before, _Given(sample))
      return upstream, State(*tape.gradient(
          result, list(before), output_gradients=list(upstream),
          unconnected_gradients=tf.UnconnectedGradients.ZERO))

    @tf.custom_gradient
    def link(*tensors):
      """Returns the scan's values; their gradients go to `at_once`."""
      del tensors
      def gradient(*upstream):
        end = State(*upstream[3:])
        with loops.looping():
          upstream, start = base.scan_major(
              back, (inputs, before, values.stoch, Latents(*upstream[:3])),
              end, length, reverse=True)
        return *start, *upstream
      return (*values, *last), gradient

    linked = link(*state, *at_once)
    return Latents(*map(base.swap, linked[:3])), State(*linked[3:])

  def observe_step(self, tokens, prev_action, is_first, state, rng):
    """See `interfaces.Core.observe_step`."""
    self.check_inputs(tokens, prev_action, is_first, state)
    weights = self.weights()
    inputs = self.project(tokens, prev_action, is_first)
    return self.filter_step(weights, inputs, state, rng)

  def imagine(self, policy, state, horizon, rng):
    """See `interfaces.Core.imagine`."""
    weights = self.weights()
    action_rng, latent_rng = rng.fold('action'), rng.fold('latent')
    def step(t, inputs, state):
      del inputs
      action = self.checked_action(
          policy(self.features(state), action_rng.at(t)))
      latents, state = self.predict_step(
          weights, action, state, latent_rng.at(t))
      return (latents, action), state
    (latents, actions), state = self._dream(step, state, horizon)
    return latents, actions, state

  def _dream(self, step, state, horizon):
    """Scans a dream; where rows are picked, with the classes beside the state.

    So nobody looks for them again, and XLA stores the one-hot vectors of all
    steps only if something else than products reads them.
    """
    found = isinstance(state, State) and picking.pick(
        flat(state.stoch), self.classes)
    if not isinstance(found, picking.Picked):
      return base.scan(step, (), state, horizon)
    sure = True
    index, exact, _ = found.classes
    exact = tf.constant(True) if exact is None else exact

    def with_classes(t, inputs, carried):
      nonlocal sure
      state, index, exact = carried
      picking.remember(state.stoch, index[..., None], exact)
      (latents, action), state = step(t, inputs, state)
      index, exact, _ = picking.pick(
          flat(state.stoch), self.classes).classes
      sure = sure and exact is None and latents.stoch is state.stoch
      exact = tf.constant(True) if exact is None else exact
      return (latents, action, index), (state, index, exact)

    (latents, actions, index), (state, last, _) = base.scan(
        with_classes, (), (state, index, exact), horizon)
    if sure:
      picking.remember(latents.stoch, index[..., None])
      picking.remember(state.stoch, last[..., None])
    return (latents, actions), state

  def imagine_step(self, action, state, rng):
    """See `interfaces.Core.imagine_step`."""
    return self.predict_step(
        self.weights(), self.checked_action(action), state, rng)

  def features(self, latents) -> dict[str, tf.Tensor]:
    """Returns deter and flat stoch of Latents or of a State."""
    stoch = latents.stoch
    lead = linear.dynamic_shape(stoch)[:-2]
    return {
        'deter': latents.deter,
        'stoch': tf.reshape(stoch, [*lead, self.stoch * self.classes])}

  def kl(self, latents):
    """Returns KL[sg(posterior) || prior] and KL[posterior || sg(prior)].

    Each is a sum over the groups, in nats, [B, T] float32.
    """
    prior = self.prior(latents.deter)
    stop = tf.stop_gradient
    dist = lambda logits: distributions.OneHot(logits, self.unimix)
    return (
        distributions.kl_divergence(dist(stop(latents.logits)), dist(prior)),
        distributions.kl_divergence(dist(latents.logits), dist(stop(prior))))

  def starts(self, latents):
    """Returns the states of Latents [B, T, ...] as State [B * T, ...]."""
    return base.flat(State(latents.deter, latents.stoch))

  def replay_entry(self, latents) -> dict[str, tf.Tensor]:
    """Returns deter and the class indices of stoch, as in `replay_spec`."""
    index = tf.argmax(latents.stoch, -1, tf.int32)
    return {
        'deter': tf.cast(latents.deter, tf.float32),
        'stoch': tf.cast(index, self.replay_spec['stoch'].dtype)}

  def state_from_replay(self, entry):
    """Returns the State of a replay entry."""
    stoch = tf.one_hot(tf.cast(entry['stoch'], tf.int32), self.classes)
    return State(tf.cast(entry['deter'], tf.float32), stoch)

  def result(self, deter, logits, rng):
    """Samples the latent; returns (Latents, State)."""
    logits = tf.cast(logits, tf.float32)
    dist = distributions.OneHot(logits, self.unimix)
    stoch = dist.straight_through(rng.sample(dist))
    return Latents(deter, stoch, logits), State(deter, stoch)


def flat(stoch):
  """Merges the last two axes of stoch [B, S, C]."""
  return tf.reshape(stoch, [-1, math.prod(stoch.shape[-2:])])
