"""The contracts of the components, as classes with docstrings and no logic.

Tensors are batch-major, `[B, T, ...]` at every border; one time step is a
method of its own without the T axis. Results come first, the next state last.
`prev_action[:, t]` is the action that led to `obs[:, t]`. Constructors take
specs of other parts and numbers of their own, by keyword; `build()` makes
every variable. A part used unbuilt raises an error that says so.

This module imports neither TensorFlow nor gin. The letters of the shapes are
explained in `types.py`.
"""
# The bodies are docstrings, whatever is returned.
# pyright: reportReturnType=false

from typing import Any

from dv3 import errors


def required(method):
  """Marks a method that a component must define itself."""
  method.__required__ = True
  return method


class Component:
  """What every component has in common.

  Attributes:
    CONSTRUCTOR: names of the keyword arguments that the library passes to the
      constructor of every component of this kind. The rest of a constructor's
      arguments are the component's own numbers and have defaults.
    OPTIONAL: those of them that a constructor may leave out; the library then
      does not pass them. `dtype` is a Keras dtype policy, 'float32' or
      'mixed_bfloat16'; a part without it computes in float32 alone.
  """

  CONSTRUCTOR: tuple[str, ...] = ()
  OPTIONAL: tuple[str, ...] = ('dtype',)


class Encoder(Component):
  """Turns observations into tokens; a `keras.layers.Layer`.

    encoder = Encoder(obs_spec=obs_spec)
    encoder.build()
    tokens = encoder(obs)          # {key: [B, T, ...]} -> [B, T, E]

  Any number of leading axes is allowed. Observations that it is not made for
  are refused by the constructor, or by `build`.

  Attributes:
    token_size: E, known after construction.
  """

  CONSTRUCTOR = ('obs_spec', 'dtype')
  token_size: int

  @required
  def build(self, input_shape=None) -> None:
    """Makes every variable."""

  @required
  def call(self, obs) -> Any:
    """Maps {key: [..., *shape]} to tokens [..., E] in the compute dtype."""


class Decoder(Component):
  """Predicts observations from features; a `keras.layers.Layer`.

    decoder = Decoder(obs_spec=obs_spec, feature_spec=core.feature_spec)
    decoder.build()
    dists = decoder(features)      # {name: [B, T, F]} -> {key: Distribution}
    loss = -dists['image'].log_prob(obs['image'])          # [B, T] float32

  Observations reach `log_prob` as the environment made them: images are uint8
  in [0, 255], classes are integer indices. What a distribution needs it casts
  itself. Observations that it is not made for are refused by the constructor,
  or by `build`.

  Attributes:
    keys: the observation keys that it predicts.
  """

  CONSTRUCTOR = ('obs_spec', 'feature_spec', 'dtype')
  keys: tuple[str, ...]

  @required
  def build(self, input_shape=None) -> None:
    """Makes every variable."""

  @required
  def call(self, features) -> dict[str, Any]:
    """Maps {name: [..., F]} to {key: tfd.Distribution with batch [...]}."""


class Core(Component):
  """The latent dynamics; a `tf.Module` that owns Layers.

    core = Core(token_size=E, action_size=A)
    core.build()
    state = core.initial(batch_size)
    latents, state = core.observe(tokens, prev_action, is_first, state, rng)
    features = core.features(latents)                  # {name: [B, T, F]}
    dynamics, representation = core.kl(latents)        # [B, T] each
    imagined, actions, state = core.imagine(policy, state, horizon, rng)

  `tokens` is [B, T, E], `prev_action` [B, T, A] (discrete entries one-hot),
  `is_first` [B, T] bool: where true, state and previous action are set to the
  initial ones before the step, whatever they were (`tf.where`, not a product
  with 0, which keeps NaN). T is known when a graph is traced. Numbers are drawn
  by `rng` alone, those of step t of a sequence by `rng.at(t)`.
  `policy(features, rng) -> action [B, A]`.

  Attributes:
    feature_spec: {name: size} in the order in which heads concatenate; the
      size of a one-hot feature may be a `types.OneHotSize`.
    replay_spec: {name: Spec} of one step's replay entry.
  """

  CONSTRUCTOR = ('token_size', 'action_size', 'dtype')
  feature_spec: dict[str, int]
  replay_spec: dict[str, Any]

  @required
  def build(self) -> None:
    """Makes every variable."""

  @required
  def initial(self, batch_size):
    """Returns the state at the start of an episode, leaves [B, ...]."""

  @required
  def observe(self, tokens, prev_action, is_first, state, rng):
    """Filters a sequence: returns (Latents [B, T, ...], state)."""

  @required
  def observe_step(self, tokens, prev_action, is_first, state, rng):
    """Filters one step, without T axis: returns (Latents [B, ...], state)."""

  @required
  def imagine(self, policy, state, horizon, rng):
    """Dreams: returns (Latents [B, H, ...], actions [B, H, A], state).

    `actions[:, t]` is the action that led to `latents[:, t]`; the latent of
    `state` itself is not among the results.
    """

  @required
  def imagine_step(self, action, state, rng):
    """Predicts one step: returns (Latents [B, ...], state)."""

  def starts(self, latents):
    """Returns the states of Latents [B, T, ...] as a state [B * T, ...].

    Imagination starts from them, without a gradient; row b * T + t is step t of
    sequence b. None, the default, means what `state_from_replay` makes of
    `replay_entry(latents)`; a core overrides it to keep more than replay does.
    """

  @required
  def features(self, latents) -> dict[str, Any]:
    """Returns {name: [..., F_name]} of Latents, or of a state [B, ...]."""

  @required
  def kl(self, latents):
    """Returns raw KLs in nats, (dynamics [B, T], representation [B, T])."""

  @required
  def replay_entry(self, latents) -> dict[str, Any]:
    """Returns {name: [..., *shape]} to be stored, as in `replay_spec`."""

  @required
  def state_from_replay(self, entry):
    """Returns the state [B, ...] that a replay entry [B, ...] describes."""


class Head(Component):
  """Predicts a distribution from features; a `keras.layers.Layer`.

    head = Head(feature_spec=core.feature_spec)
    head.build()
    dist = head(features)          # {name: [..., F]} -> tfd.Distribution

  An actor's constructor also gets `action_spec`, and no other head does.
  """

  CONSTRUCTOR = ('feature_spec', 'dtype')

  @required
  def build(self, input_shape=None) -> None:
    """Makes every variable."""

  @required
  def call(self, features) -> Any:
    """Maps {name: [..., F]} to a tfd.Distribution with batch shape [...]."""


class Loss(Component):
  """One or several loss terms; a `tf.Module`, which may own variables.

    losses, metrics = loss(context)       # context: dv3.losses.Context

  Losses come back per step and unreduced, {name: [B, T'] float32, T' <= T}, of
  the first T' steps: a loss that needs the next step leaves out the last.
  Metrics are {name: scalar}. The agent takes each loss's own mean and the
  balancer weighs them; in the sums of each step that samplers see, a step that
  is left out counts zero.

  Attributes:
    PHASE: 'model' for losses on the replayed sequence, 'behavior' for losses
      that need imagined trajectories.
    NAMES: the names of its losses, unless they depend on the other parts.
    imagination_gradient: whether it differentiates through imagined
      trajectories with respect to the actor. The agent then imagines with
      gradients, and lets those of this loss reach the actor's variables only.
    across_replicas: where it uses what other replicas know (normalizers,
      `normalizers.statistics`): 'never'; in its 'statistics' alone, which a
      loss on dreams may, if only heads and its own variables get gradients; or
      'throughout', which keeps updates on several replicas from being compiled,
      as do a loss that owns untrained variables otherwise, and a class that
      overrides `__call__` and inherits `statistics`.
  """

  PHASE: str = 'model'
  NAMES: tuple[str, ...] = ()
  imagination_gradient: bool = False
  across_replicas: str = 'never'

  def build(self, parts) -> None:
    """Makes the loss's own variables; most losses have none.

    Args:
      parts: {name: built part}, as in `losses.Context.parts`.
    """

  def names(self, parts) -> tuple[str, ...]:
    """Returns the names of the losses that a call will return."""
    del parts
    return self.NAMES

  def convolves(self, parts) -> bool:
    """Whether it runs convolutions over images, by its decoder say.

    On a CPU such a loss of the model phase is computed outside of what XLA
    compiles. It sees a context without a dream then, and has gradients for its
    variables, the parts' and the features alone. Where
    `across_replicas` is 'never' it sees some of the sequences at a time, as on
    several replicas, and its metrics are averaged.
    """
    del parts
    return False

  def statistics(self, context):
    """Returns what it needs of all replicas, as a nest of tensors.

    A call finds it in `context.statistics`, or computes it where that is None.
    On several replicas what comes before and after is compiled by XLA, and this
    is not.
    """
    del context

  @required
  def __call__(self, context):
    """Returns ({name: [B, T'] float32}, {metric: scalar})."""


class Balancer(Component):
  """Weighs the mean losses into one scalar; a `tf.Module`.

    total, metrics = balancer({name: scalar mean})

  Attributes:
    linear: whether the total is linear in every mean, and a call assigns no
      variable. With others, updates on several replicas are not compiled.
  """

  linear: bool = False

  def build(self, names) -> None:
    """Makes the balancer's own variables for the loss names."""

  @required
  def __call__(self, means):
    """Returns (total scalar float32, {metric: scalar})."""


class Normalizer(Component):
  """Running statistics of a quantity, the same on every replica.

    offset, scale = normalizer.update(values)     # values of this replica
    offset, scale = normalizer.read()
  """

  @required
  def build(self) -> None:
    """Makes the statistics' variables."""

  @required
  def update(self, values):
    """Takes in values [...] of all replicas, then returns (offset, scale)."""

  @required
  def read(self):
    """Returns (offset, scale), scalars float32, without taking anything in."""


class Sampler(Component):
  """Chooses which stored sequences to train on; host side, NumPy.

    sampler.add(items)        # [n] int64, counting on without a gap
    sampler.remove(items)     # [n] int64, the oldest ones
    items = sampler.sample(count, rng)       # rng: numpy.random.Generator
    sampler.update(items, {name: [count, T]}, ends)   # what an update said
    state = sampler.state()           # {name: array}, into the checkpoint
    sampler.load(state, items)

  An item is the number of a stored sequence; at most `capacity` are stored.
  """

  CONSTRUCTOR = ('capacity',)

  @required
  def add(self, items) -> None:
    """Makes sequences [n] int64 available."""

  @required
  def remove(self, items) -> None:
    """Takes back sequences [n] int64; always the oldest ones."""

  @required
  def sample(self, count: int, rng):
    """Returns [count] int64 items, drawn with replacement."""

  def mark_ends(self, items) -> None:
    """Learns which added sequences [n] end with an episode; default: nothing.

    It is called right after `add`, with some of its items.
    """

  def update(self, items, signals, ends) -> None:
    """Takes in what an update said about trained items; default: nothing.

    Args:
      items: [B] int64, all of them stored.
      signals: {name: [B, T] float} of the trained steps, 'loss' among them.
      ends: [B, T] int64, the stored item whose sequence ends with the trained
        step, -1 where there is none.
    """

  @required
  def state(self) -> dict[str, Any]:
    """Returns what must survive, {name: array}.

    Entries called 'item/<name>' have a row for each stored item, oldest first:
    if a part of replay is lost, their rows are taken out.
    """

  @required
  def load(self, state: dict[str, Any], items) -> None:
    """Restores `state()` in a new sampler; `items` [n] int64 are stored."""


class Transform(Component):
  """Changes the steps of an episode before they reach replay; host side.

    for step in transform(step, worker): replay.add(step, worker)

  One object serves all workers. A transform may hold steps back, for example
  until their episode ends; what it holds is its state.
  """

  CONSTRUCTOR = ()

  @required
  def __call__(self, step: dict[str, Any], worker: int) -> list[dict[str, Any]]:
    """Takes one step of one worker; returns the steps that are now ready.

    Args:
      step: {name: [...]} of one step, with 'reward' and the flags.
      worker: number of the environment.
    """

  def state(self) -> dict[str, Any]:
    """Returns what must survive, a nest of arrays; nothing by default."""
    return {}

  def load(self, state: dict[str, Any]) -> None:
    """Restores `state()` in a new transform."""


class Env(Component):
  """A factory of `gymnasium.Env`; no TensorFlow, at any depth.

    env = registry.get('env', 'gymnasium')(id='CartPole-v1')
    obs, info = env.reset(seed=0)
  """

  CONSTRUCTOR = ()


class Collector(Component):
  """Steps environments with a policy and hands each step on; host side.

    collector = Collector(env=recipe, num_envs=1, seed=0)
    episodes = collector.run(policy, sink, env_steps=1)
    collector.close()

  Attributes:
    obs_spec, action_spec: `types.Specs`.
    num_envs: environments, and so rows of each step that is handed on.
    env_steps: env steps so far, over all environments; resets do not count.
  """

  CONSTRUCTOR = ('env', 'seed')
  obs_spec: dict[str, Any]
  action_spec: dict[str, Any]
  num_envs: int
  env_steps: int

  @required
  def run(self, policy, sink, env_steps: int):
    """Collects at least `env_steps` steps; returns list[types.Episode]."""

  @required
  def state(self) -> dict[str, Any]:
    """Returns what must survive a restart, arrays and JSON values."""

  @required
  def load(self, state: dict[str, Any]) -> None:
    """Restores `state()`."""

  @required
  def close(self) -> None:
    """Ends the environments and their processes."""

  def evaluate(self, policy, episodes: int):
    """Plays whole episodes for `dv3-eval`; returns list[types.Episode].

    Raises:
      UserError: unless a collector defines it.
    """
    raise errors.UserError(
        f'{type(self).__name__} cannot evaluate; define evaluate(policy, '
        'episodes), or choose another collector for dv3-eval')

  def resize(self, num_envs: int) -> None:
    """Sets `num_envs` before the first step, for `train.scaling`.

    Raises:
      UserError: unless a collector defines it.
    """
    raise errors.UserError(
        f'{type(self).__name__} cannot change its number of environments; '
        'define resize(num_envs), or choose another train.scaling')


class Exploration(Component):
  """Changes the actions of the policy while it collects; host side, NumPy.

    actions = exploration(actions, env_steps)

  The agent remembers the changed actions. Evaluation and exported policies do
  without it. It has no state: random numbers depend on the seed and `env_steps`
  alone, so that a resumed run goes on as if it had not stopped.
  """

  CONSTRUCTOR = ('action_spec', 'seed')

  @required
  def __call__(self, actions: dict[str, Any], env_steps: int):
    """Returns the actions to play.

    Args:
      actions: {key: [n, ...]} of n environments, read-only.
      env_steps: so far, over all environments; resets do not count.

    Returns:
      {key: [n, ...]} of the same keys, shapes and dtypes, finite numbers and
      classes that there are.
    """


class Logger(Component):
  """Writes metrics somewhere; host side.

    logger.write(step, {name: float | [T, Y, X, ch] uint8 video | str})
    logger.episode(types.Episode)
    logger.flush(); logger.close()
  """

  CONSTRUCTOR = ('logdir',)

  @required
  def write(self, step: int, metrics: dict[str, Any]) -> None:
    """Writes metrics at an env step."""

  def episode(self, episode) -> None:
    """Takes one finished episode."""

  def progress(self, step: int, status: dict[str, float]) -> None:
    """Shows where the run stands; called often, for live displays."""

  def truncate(self, step: int) -> None:
    """On resume: forgets everything written after `step`."""

  def flush(self) -> None:
    """Makes everything written so far visible to readers."""

  def close(self) -> None:
    """Flushes and releases files."""


class Scaling(Component):
  """How a configuration for one replica becomes one for several.

    scale = scaling(replicas)

  The trainer asks once it knows the number of replicas, and multiplies batch
  size, number of environments and learning rates.
  """

  CONSTRUCTOR = ()

  @required
  def __call__(self, replicas: int):
    """Returns the `types.Scale` for a number of replicas."""
