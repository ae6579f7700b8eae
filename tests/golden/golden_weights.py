"""Pairs the reference's weight names with our variables."""

import numpy as np


def _hidden(result, linear, norm, layer):
  result[f'{linear}/kernel'] = layer.linear.kernel
  if layer.linear.bias is not None:
    result[f'{linear}/bias'] = layer.linear.bias
  result[f'{norm}/scale'] = layer.norm.scale


def _linear(result, name, layer):
  result[f'{name}/kernel'] = layer.kernel
  result[f'{name}/bias'] = layer.bias


def mlp(prefix, layers):
  result = {}
  for i, layer in enumerate(layers.hidden):
    _hidden(result, f'{prefix}linear{i}', f'{prefix}norm{i}', layer)
  return result


def encoder(part):
  result = {}
  for i, layer in enumerate(part.vector.mlp.hidden if part.vector else ()):
    _hidden(result, f'mlp{i}', f'mlp{i}norm', layer)
  for i, layer in enumerate(part.image.convs if part.image else ()):
    _linear(result, f'cnn{i}', layer)
    result[f'cnn{i}norm/scale'] = part.image.norms[i].scale
  return result


def core(part):
  result = {}
  for i, layer in enumerate((part.deter_in, part.stoch_in, part.action_in)):
    _hidden(result, f'dynin{i}', f'dynin{i}norm', layer)
  _linear(result, 'dynhid0', part.hidden_block)
  result['dynhid0norm/scale'] = part.hidden_norm.scale
  _linear(result, 'dyngru', part.gates)
  for i, layer in enumerate(part.prior_mlp.hidden):
    _hidden(result, f'prior{i}', f'prior{i}norm', layer)
  _linear(result, 'priorlogit', part.prior_logits)
  for i, layer in enumerate([part.posterior_first, *part.posterior_mlp.hidden]):
    _hidden(result, f'obs{i}', f'obs{i}norm', layer)
  _linear(result, 'obslogit', part.posterior_logits)
  return result


def decoder(part):
  result = {}
  if part.vector:
    result.update(mlp('mlp/', part.vector.mlp))
    for (key, spec), layer in zip(
        part.vector.obs_spec, part.vector.outputs, strict=True):
      kind = 'logits' if spec.is_discrete else 'pred'
      _linear(result, f'vec/{key}/{kind}', layer)
  if part.image:
    image = part.image
    _linear(result, 'sp0', image.start_block)
    _hidden(result, 'sp1', 'sp1norm', image.start_hidden)
    _linear(result, 'sp2', image.start_linear)
    result['spnorm/scale'] = image.start_norm.scale
    for i, layer in enumerate(image.convs):
      name = f'conv{len(image.convs) - 1 - i}'
      _linear(result, name, layer)
      result[f'{name}norm/scale'] = image.norms[i].scale
    _linear(result, 'imgout', image.output_conv)
  return result


def head(part, output):
  result = mlp('mlp/', part.mlp)
  _linear(result, f'head/{output}', part.output_layer)
  return result


def actor(part):
  result = mlp('mlp/', part.mlp)
  (_, spec), = part.action_spec
  kind = 'logits' if spec.is_discrete else 'mean'
  _linear(result, f'head/action/{kind}', part.output_layers[0])
  if not spec.is_discrete:
    _linear(result, 'head/action/stddev', part.stddev_layers[0])
  return result


def prefixed(prefix, weights):
  return {f'{prefix}/{name}': value for name, value in weights.items()}


def assign(weights, arrays, prefix):
  """Sets every variable from arrays; every array must have a variable."""
  names = {k[len(prefix):] for k in arrays if k.startswith(prefix)}
  assert names == set(weights), names ^ set(weights)
  for name, variable in weights.items():
    value = arrays[prefix + name]
    assert tuple(variable.shape) == value.shape, (
        name, variable.shape, value.shape)
    variable.assign(value)


def check(actual, expected, rtol, atol, name=''):
  """Compares with atol relative to the largest expected magnitude."""
  expected = np.asarray(expected)
  largest = np.max(np.abs(expected)) if expected.size else 0.0
  np.testing.assert_allclose(
      np.asarray(actual), expected, rtol=rtol, atol=atol * largest + 1e-30,
      err_msg=name)


def outputs(actual, expected, name=''):
  """Network outputs: the README's tolerance."""
  check(actual, expected, 1e-4, 1e-5, name)


def gradients(actual, expected, name=''):
  """Gradients: the README's tolerance."""
  check(actual, expected, 1e-3, 2e-5, name)
