"""The agent: assembles the parts into a policy and a training loss."""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import gin
import tensorflow as tf

from dv3 import errors
from dv3 import losses as losses_lib
from dv3 import objective
from dv3 import probing
from dv3 import registry
from dv3 import types
from dv3.cores import base
from dv3.nets import inputs
from dv3.nets import linear
from dv3.nets import loops
from dv3.nets import part as part_lib
from dv3.normalizers import slow

PARTS = (
    'encoder', 'core', 'decoder', 'reward', 'continue', 'actor', 'critic',
    'losses', 'balancer')
"""Names of the parts that optimizer groups refer to."""

_LOSSES = (
    'kl', 'reconstruction', 'reward', 'continue', 'actor_reinforce',
    'critic_imagined', 'critic_replay')


_SCALES = {'representation': 0.1, 'critic_replay': 0.3}
"""Published scales of losses other than 1."""


class PolicyState(NamedTuple):
  """What the policy carries from step to step.

  Attributes:
    latent: the core's state, leaves [B, ...].
    action: [B, A] float32, the previous action, encoded.
  """

  latent: Any
  action: tf.Tensor


@gin.register(
    'Agent', module='dv3', denylist=['obs_spec', 'action_spec'])
class Agent(tf.Module):
  """DreamerV3, assembled from swappable parts.

    agent = Agent(obs_spec=obs_spec, action_spec=action_spec)
    agent.build()
    state = agent.initial(batch_size)
    actions, entries, state = agent.policy(obs, is_first, state, rng)
    total, outputs = agent.loss(batch, rng)

  Choices are factories, called with the specs that the part needs; without an
  argument a choice is the published part with its published numbers. The agent
  takes no configuration and touches no global state.

  Args:
    obs_spec: the observation entries.
    action_spec: the action entries.
    encoder: factory (obs_spec, dtype).
    core: factory (token_size, action_size, dtype).
    decoder: factory (obs_spec, feature_spec, dtype).
    reward: factory (feature_spec, dtype) of the reward head.
    continuation: factory likewise, of the continue head.
    actor: factory (feature_spec, action_spec, dtype).
    critic: factory (feature_spec, dtype), called twice: the slow critic is
      built alike.
    losses: factories of the losses.
    balancer: factory of what weighs them.
    imagination_horizon: H, imagined steps from every state.
    discount_horizon: in env steps; the discount is 1 - 1 / discount_horizon.
    discounted_continue: whether the discount is part of the continue target,
      so that imagination multiplies by the predicted probability alone.
    lambda_: mixing factor of lambda-returns.
    slow_rate: share of the new critic in its slow copy, each update.
    slow_every: updates between updates of the slow copy.
    slow_target: whether lambda-returns bootstrap from the slow critic.
    hard_continue: whether imagination thresholds the predicted probability to
      continue at one half, as in the 2023 form.
    true_first_continue: whether imagination starts with the true flag of the
      start state in place of the prediction.
    imagination_gradient: whether imagined trajectories carry gradients to the
      actor. None means as the losses ask; False saves what a backward pass
      would have to store.
    compute_dtype: 'float32' or 'bfloat16'; variables, norms, logits, losses,
      returns and KL are float32 with both. Factories of parts that take no
      `dtype` do for float32.

  Raises:
    UserError: for numbers out of range, no losses, parts or losses without what
      their interface has, or a part that takes no `dtype` where bfloat16 is
      asked for; in `build`, for parts whose results are not what their
      interface says, or a loss that needs gradients through imagination where
      they are forbidden.

  Source: Hafner et al., Nature 2025; danijar/dreamerv3 e3f0224.
  """

  def __init__(
      self, *, obs_spec: types.Specs, action_spec: types.Specs,
      encoder: Callable | None = None, core: Callable | None = None,
      decoder: Callable | None = None, reward: Callable | None = None,
      continuation: Callable | None = None, actor: Callable | None = None,
      critic: Callable | None = None,
      losses: tuple[Callable, ...] | None = None,
      balancer: Callable | None = None, imagination_horizon: int = 15,
      discount_horizon: float = 333.0, discounted_continue: bool = True,
      lambda_: float = 0.95, slow_rate: float = 0.02, slow_every: int = 1,
      slow_target: bool = False, hard_continue: bool = False,
      true_first_continue: bool = False,
      imagination_gradient: bool | None = None,
      compute_dtype: str = 'float32'):
    super().__init__(name='agent')
    self.built = False
    if compute_dtype not in ('float32', 'bfloat16'):
      raise errors.UserError(
          f'Agent.compute_dtype is {compute_dtype!r}; choose float32 or '
          'bfloat16 (float16 loses the range that symexp bins need)')
    errors.check_least(1, {
        'Agent.imagination_horizon': imagination_horizon,
        'Agent.discount_horizon': discount_horizon,
        'Agent.slow_every': slow_every})
    errors.check_within(
        0, 1, {'Agent.lambda_': lambda_, 'Agent.slow_rate': slow_rate})
    if losses is not None and not losses:
      raise errors.UserError(
          'Agent.losses is empty, so that nothing would be trained; list '
          'losses, or leave it out for the published ones')
    if not discounted_continue:  # Weights of dreams are divided by it.
      errors.check_above(1, {'Agent.discount_horizon': discount_horizon})
    make = functools.partial(part_lib.make, dtype=(
        'float32' if compute_dtype == 'float32' else 'mixed_bfloat16'))
    pick = lambda choice, kind, name, **kw: choice or functools.partial(
        registry.get(kind, name), **kw)
    self.obs_spec = types.freeze(obs_spec)
    self.compute_dtype = compute_dtype
    self.codec = inputs.ActionCodec(action_spec)
    self.imagination_horizon = imagination_horizon
    self.discount = 1.0 - 1.0 / discount_horizon
    self.discounted_continue = discounted_continue
    self.lambda_ = lambda_
    self.slow_target = slow_target
    self.hard_continue = hard_continue
    self.true_first_continue = true_first_continue
    self.imagination_gradient = imagination_gradient
    self.encoder = make(pick(encoder, 'encoder', 'dict'), obs_spec=obs_spec)
    if not hasattr(self.encoder, 'token_size'):
      raise errors.UserError(
          f'{type(self.encoder).__name__} has no token_size, the length of its '
          'tokens, which the core needs; set it in the constructor')
    self.core = make(
        pick(core, 'core', 'rssm'), token_size=self.encoder.token_size,
        action_size=self.codec.size)
    for name in ('feature_spec', 'replay_spec'):
      if not isinstance(getattr(self.core, name, None), Mapping):
        raise errors.UserError(
            f'{type(self.core).__name__} has no dict {name}; set it in the '
            'constructor (dv3.interfaces.Core)')
    features = dict(self.core.feature_spec)
    self.decoder = make(
        pick(decoder, 'decoder', 'dict'), obs_spec=obs_spec,
        feature_spec=features)
    self.reward = make(
        pick(reward, 'head', 'twohot', layers=1), feature_spec=features)
    self.continuation = make(
        pick(continuation, 'head', 'binary'), feature_spec=features)
    self.actor = make(
        pick(actor, 'head', 'actor'), action_spec=action_spec,
        feature_spec=features)
    critic = pick(critic, 'head', 'twohot')
    self.critic = make(critic, feature_spec=features)
    self.slow_critic = make(critic, feature_spec=features)
    self.slow_copy = slow.SlowCopy(
        self.critic, self.slow_critic, rate=slow_rate, every=slow_every)
    self.losses = [
        factory() for factory in losses or [
            registry.get('loss', name) for name in _LOSSES]]
    for loss in self.losses:
      _check_loss(loss)
    self.objective = objective.Objective(self)
    names = {name for loss in self.losses for name in loss.NAMES}
    self.balancer = pick(balancer, 'balancer', 'fixed', scales={
        name: scale for name, scale in _SCALES.items() if name in names})()
    self.parts = {
        'encoder': self.encoder, 'core': self.core, 'decoder': self.decoder,
        'reward': self.reward, 'continue': self.continuation,
        'actor': self.actor, 'critic': self.critic,
        'slow_critic': self.slow_critic}

  @part_lib.once
  def build(self):
    """Makes every variable; call it under the strategy's scope.

    Parts are also called once, on zeros, to see that they fit together. A
    second call changes nothing.
    """
    for part in self.parts.values():
      part.build()
    probing.check(self)
    self.slow_copy.build()
    names = []
    for loss in self.losses:
      loss.build(self.parts)
      names += loss.names(self.parts)
    self.balancer.build(names)
    asking = [x.name for x in self.losses if x.imagination_gradient]
    if self.imagination_gradient is None:
      self.imagination_gradient = bool(asking)
    elif asking and not self.imagination_gradient:
      raise errors.UserError(
          f'loss {asking[0]} differentiates through imagination, which '
          'Agent.imagination_gradient = False forbids; remove that binding or '
          'choose loss.actor_reinforce')
    self.built = True

  def variables_of(self, part: str) -> list[tf.Variable]:
    """Returns the trained variables of one of `PARTS`."""
    if part == 'losses':
      return [v for loss in self.losses for v in loss.trainable_variables]
    if part == 'balancer':
      return list(self.balancer.trainable_variables)
    return list(self.parts[part].trainable_variables)

  @property
  def latent_spec(self) -> types.Specs:
    """The entries 'latent/<name>' that replay stores of each step."""
    return {
        f'latent/{name}': spec
        for name, spec in self.core.replay_spec.items()}

  def initial(self, batch_size) -> PolicyState:
    """Returns the policy's state before the first step, leaves [B, ...]."""
    return PolicyState(
        self.core.initial(batch_size),
        tf.zeros([batch_size, self.codec.size]))

  def policy(self, obs, is_first, state: PolicyState, rng, *, mode=False):
    """Chooses actions for one step.

    Args:
      obs: {key: [B, ...]}.
      is_first: [B] bool; where true the state is reset.
      state: the state after the previous step.
      rng: key of this step.
      mode: whether to take the likeliest action in place of a sample.

    Returns:
      (actions {name: [B, ...]}, entries {'latent/<name>': [B, ...]}, state).
    """
    return self.act(self.encode(obs), is_first, state, rng, mode=mode)

  def act(self, tokens, is_first, state: PolicyState, rng, *, mode=False):
    """Chooses actions for tokens [B, E]; otherwise as `policy`."""
    latents, latent = self.core.observe_step(
        tokens, state.action, is_first, state.latent, rng.fold('observe'))
    dist = self.actor(self.core.features(latents))
    action = dist.mode() if mode else rng.fold('action').sample(dist)
    entries = self.core.replay_entry(latents)
    entries = {f'latent/{name}': value for name, value in entries.items()}
    return self.codec.decode(action), entries, PolicyState(latent, action)

  def encode(self, batch):
    """Returns the tokens [..., E] of observations among other entries.

    Raises:
      UserError: for an observation that is missing or of another shape than its
        spec's, or tokens of another form.
    """
    obs = {
        key: inputs.entry(batch, key, spec) for key, spec in self.obs_spec}
    tokens = self.encoder(obs)
    key, spec = self.obs_spec[0]
    lead = obs[key].shape.rank - len(spec.shape)
    if not tf.is_tensor(tokens) or tokens.shape.rank != lead + 1:
      what = tuple(tokens.shape) if tf.is_tensor(tokens) else (
          f'of type {type(tokens).__name__}')
      raise errors.UserError(
          f'{type(self.encoder).__name__} made tokens {what}; they are one '
          f'tensor [{", ".join("BT"[:lead])}, token_size], with the leading '
          'axes of the observations')
    if tokens.shape[-1] not in (None, self.encoder.token_size):
      raise errors.UserError(
          f'{type(self.encoder).__name__} made tokens of {tokens.shape[-1]} '
          f'numbers, but its token_size is {self.encoder.token_size}; make '
          'both the same')
    return tokens

  def observe(self, batch, rng, tokens=None) -> losses_lib.Context:
    """Filters a batch; see `loss` for its entries.

    Args:
      batch: see `loss`, which raises the same.
      rng: key of this update.
      tokens: [B, T, E], what `encode(batch)` returns, if it is known.
    """
    batch = self._tensors(batch)
    if tokens is None:
      tokens = self.encode(batch)
    latents, _ = self.core.observe(
        tokens, self._prev_action(batch), batch['is_first'],
        self._start(batch), rng.fold('observe'))
    return self.context(batch, tokens, latents)

  def _prev_action(self, batch):
    """Returns the encoded actions before each step, [B, T, A] float32."""
    return self.codec.encode({
        key: batch['prev_' + key] for key in self.codec.specs})

  def context(self, batch, tokens, latents) -> losses_lib.Context:
    """Returns what losses see of a filtered batch, without a dream."""
    return losses_lib.Context(
        obs={key: batch[key] for key, _ in self.obs_spec},
        prev_action=self._prev_action(batch),
        reward=tf.cast(batch['reward'], tf.float32),
        is_first=batch['is_first'], is_last=batch['is_last'],
        is_terminal=batch['is_terminal'], tokens=tokens, latents=latents,
        features=self.core.features(latents), parts=self.parts,
        discount=self.discount, discounted_continue=self.discounted_continue,
        lambda_=self.lambda_)

  def _start(self, batch):
    """Returns the latent state before a batch's first step."""
    entry = {
        name: batch[f'latent/{name}'] for name in self.core.replay_spec
        if f'latent/{name}' in batch}
    if entry:
      return self.core.state_from_replay(entry)
    return self.core.initial(linear.dynamic_shape(batch['reward'])[0])

  def imagine(self, context, rng) -> losses_lib.Imagined:
    """Dreams from every state of a filtered batch.

    Starts never carry gradients. With `imagination_gradient` the rest does:
    actions are reparametrised (numbers) or straight-through (classes), and the
    actor sees features without gradients.
    """
    stop = lambda nest: tf.nest.map_structure(tf.stop_gradient, nest)
    keep = (lambda nest: nest) if self.imagination_gradient else stop
    length = context.reward.shape[1]
    rng = rng.fold('imagine').rows(length)
    def choose(features, rng):
      dist = self.actor(stop(features))
      action = rng.sample(dist)
      return dist.straight_through(action) if (
          self.imagination_gradient and hasattr(dist, 'straight_through')
      ) else action
    dreaming = (contextlib.nullcontext() if self.imagination_gradient
                else loops.looping())
    with dreaming:
      dream, action, state = self.core.imagine(
          choose, base.starts(self.core, context.latents),
          self.imagination_horizon, rng)
    last = choose(
        self.core.features(state),
        rng.fold('action').at(self.imagination_horizon))
    first = base.flat(stop(context.features))
    features = keep({
        name: tf.concat([first[name][:, None], value], 1)
        for name, value in self.core.features(dream).items()})
    discount = 1.0 if self.discounted_continue else self.discount
    reward = self.reward(features).mean()
    continuation = self._continuation(context, features)
    weight = tf.math.cumprod(discount * continuation, 1) / discount
    slow_value = self.slow_critic(features).mean()
    critic = None
    if self.slow_target:
      value = slow_value
    elif self.imagination_gradient:
      value = self.critic(features).mean()
    else:
      critic = self.critic(features)
      value = critic.mean()
    returns = losses_lib.lambda_return(
        reward, continuation * discount,
        tf.fill(tf.shape(reward), self.lambda_), value)
    return losses_lib.Imagined(
        features=features, action=keep(tf.concat([action, last[:, None]], 1)),
        **keep({
            'reward': reward, 'continuation': continuation, 'weight': weight,
            'value': value, 'slow_value': slow_value, 'returns': returns}),
        discount=discount, critic=critic,
        actor=None if self.imagination_gradient else self.actor(features))

  def _continuation(self, context, features):
    """Returns the probability to continue at imagined states [N, H + 1]."""
    dist = self.continuation(features)
    result = dist.mode() if self.hard_continue else dist.mean()
    if self.true_first_continue:
      first = 1.0 - tf.cast(context.is_terminal, tf.float32)
      first *= self.discount if self.discounted_continue else 1.0
      result = tf.concat([tf.reshape(first, [-1, 1]), result[:, 1:]], 1)
    return result

  def loss(self, batch, rng):
    """Computes the training loss of one batch.

    Args:
      batch: {key: [B, T, ...]}, tensors or arrays, with every observation key,
        'prev_action' (or 'prev_action/<k>'), 'reward', 'is_first', 'is_last',
        'is_terminal', and optionally 'latent/<name>' [B, ...], the latent
        before the first step.
      rng: key of this update.

    Returns:
      (total scalar float32, Outputs).

    Raises:
      UserError: for a batch that lacks an entry, or one of another shape than
        its spec's.
    """
    total, outputs, _ = self.objective.total(self._tensors(batch), rng)
    return total, outputs

  def _tensors(self, batch):
    """Returns a batch as tensors; raises UserError where an entry lacks."""
    missing = sorted({
        *(key for key, _ in self.obs_spec), *types.FLAGS,
        *('prev_' + key for key in self.codec.specs)} - batch.keys())
    if missing:
      raise errors.UserError(
          f'the batch lacks {missing}; it has {sorted(batch)}')
    return {key: tf.convert_to_tensor(value) for key, value in batch.items()}


def _check_loss(loss) -> None:
  """Refuses a loss whose attributes would have it left out, or misread.

  Raises:
    UserError: naming the attribute.
  """
  name = type(loss).__name__
  for attribute, choices in (
      ('PHASE', ('model', 'behavior')),
      ('across_replicas', ('never', 'statistics', 'throughout'))):
    value = getattr(loss, attribute, None)
    if value not in choices:
      raise errors.UserError(
          f'{name}.{attribute} is {value!r}; choose one of '
          f'{", ".join(map(repr, choices))} (dv3.interfaces.Loss)')
  if isinstance(loss.NAMES, str):
    raise errors.UserError(
        f'{name}.NAMES is the string {loss.NAMES!r}; write the tuple '
        f'({loss.NAMES!r},)')
