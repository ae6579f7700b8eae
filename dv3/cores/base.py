"""The shared scan that makes a core out of its single steps."""

import tensorflow as tf

from dv3.nets import linear


def scan(step, inputs, state, length, reverse=False):
  """As `scan_major`, for inputs and outputs [B, T, ...]."""
  outputs, state = scan_major(
      step, tf.nest.map_structure(swap, inputs), state, length, reverse)
  return tf.nest.map_structure(swap, outputs), state


def scan_major(step, inputs, state, length, reverse=False):
  """Runs `step` along the time axis in a `tf.while_loop`.

  Args:
    step: function (t, inputs at t, state) -> (outputs, state); nests of
      tensors [B, ...]. The state's shapes and dtypes do not change.
    inputs: nest of [T, B, ...], or ().
    state: nest of [B, ...].
    length: T, a Python int of at least 1.
    reverse: whether to begin with the last step.

  Returns:
    (outputs [T, B, ...], state).
  """
  arrays = [
      tf.TensorArray(x.dtype, length, element_shape=x.shape[1:])
      .unstack(x) for x in tf.nest.flatten(inputs)]
  outputs = structure(step, inputs, state)
  writers = [
      tf.TensorArray(x.dtype, length, element_shape=x.shape)
      for x in tf.nest.flatten(outputs)]

  def body(count, writers, state):
    t = length - 1 - count if reverse else count
    now = tf.nest.pack_sequence_as(inputs, [x.read(t) for x in arrays])
    result, state = step(t, now, state)
    writers = [
        writer.write(t, x) for writer, x in zip(
            writers, tf.nest.flatten(result), strict=True)]
    return count + 1, writers, state

  _, writers, state = tf.while_loop(
      lambda t, *_: t < length, body, (tf.constant(0), writers, state),
      maximum_iterations=length)
  stacked = [x.stack() for x in writers]
  return tf.nest.pack_sequence_as(outputs, stacked), state


def structure(step, inputs, state):
  """Returns the outputs of one step as TensorSpecs, without running it."""
  now = tf.nest.map_structure(
      lambda x: tf.TensorSpec(x.shape[1:], x.dtype), inputs)
  specs = tf.nest.map_structure(
      lambda x: tf.TensorSpec(x.shape, x.dtype), state)
  function = tf.function(step, autograph=False).get_concrete_function(
      tf.TensorSpec([], tf.int32), now, specs)
  return function.structured_outputs[0]


def swap(x):
  """Exchanges the first two axes."""
  return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def flat(nest):
  """Merges the first two axes of a nest, [B, T, ...] to [B * T, ...]."""
  return tf.nest.map_structure(
      lambda x: tf.reshape(
          x, [-1, *x.shape[2:]]) if None not in x.shape[2:] else tf.reshape(
              x, [-1, *linear.dynamic_shape(x)[2:]]), nest)


def starts(core, latents):
  """Returns the states of Latents [B, T, ...], leaves [B * T, ...].

  They come from the core's own `starts`, or where it has none from what replay
  would store, and carry no gradient.
  """
  own = getattr(core, 'starts', None)
  states = None if own is None else own(latents)
  if states is None:
    states = core.state_from_replay(flat(core.replay_entry(latents)))
  return tf.nest.map_structure(tf.stop_gradient, states)


class RecurrentCore(tf.Module):
  """A core whose `observe` and `imagine` are a scan over single steps.

  Subclasses define `observe_step` and `imagine_step` of `interfaces.Core`.
  """

  def observe(self, tokens, prev_action, is_first, state, rng):
    """See `interfaces.Core.observe`."""
    def step(t, inputs, state):
      return self.observe_step(*inputs, state, rng.at(t))
    return scan(
        step, (tokens, prev_action, is_first), state, tokens.shape[1])

  def imagine(self, policy, state, horizon, rng):
    """See `interfaces.Core.imagine`."""
    action_rng, latent_rng = rng.fold('action'), rng.fold('latent')
    def step(t, inputs, state):
      del inputs
      action = policy(self.features(state), action_rng.at(t))
      latents, state = self.imagine_step(action, state, latent_rng.at(t))
      return (latents, action), state
    (latents, actions), state = scan(step, (), state, horizon)
    return latents, actions, state
