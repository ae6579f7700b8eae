"""Loss scales that are learned."""

import tensorflow as tf

from dv3 import errors
from dv3 import interfaces
from dv3 import registry
from dv3.balancers import fixed

_GROUPS = (('reconstruction',), ('reward',), ('dynamics', 'representation'))


@registry.register('balancer', 'harmony')
class HarmonyBalancer(tf.Module, interfaces.Balancer):
  """Weighs groups of losses by learned scales.

    total = sum over groups of (loss / sigma + log(1 + sigma))
        + sum over losses in no group of scale * mean,    sigma = exp(s)

  with one trained scalar s [], at first 0, for each group. For a loss L > 0 the
  best sigma is (L + sqrt(L^2 + 4 L)) / 2, between L and L + 1, so that a large
  loss comes to count as 1; log(1 + sigma) in place of log(sigma) lets the
  weight of a small one grow as 1 / sqrt(L) only. The loss of a group is the
  average of its members weighted by `scales`.

  The agent trains the scalars as its part 'balancer'.

  Args:
    groups: names of losses in each group; a name stands also for those that
      begin with it and a slash, as 'reconstruction' for all observation keys.
    scales: {loss: factor}; 1 for losses that are not named. In a group only
      their ratios count.

  Raises:
    UserError: in `build`, for a group or a scale that no loss has, or a loss
      in two groups.

  Source: Ma et al., HarmonyDream, ICML 2024 (arXiv 2310.00344), eq. 5;
    grouping as in its code, thuml/HarmonyDream d68fd96, which has one image
    and leaves other observations and the continue loss unweighted.
  """

  linear = True

  def __init__(
      self, *, groups: tuple = _GROUPS,
      scales: dict[str, float] | None = None):
    errors.check_above(0, {
        f'the scale of {name} in balancer.harmony': scale
        for name, scale in (scales or {}).items()})
    super().__init__(name='harmony')
    self._groups = tuple(
        (group,) if isinstance(group, str) else tuple(group)
        for group in groups)
    self._scales = tuple(sorted((scales or {}).items()))
    self.logarithms = ()

  def build(self, names) -> None:
    fixed.check_names('balancer.harmony.scales', dict(self._scales), names)
    missing = [
        member for group in self._groups for member in group
        if not self._members((member,), names)]
    fixed.check_names('balancer.harmony.groups', missing, names)
    grouped = [
        name for group in self._groups
        for name in self._members(group, names)]
    twice = {name for name in grouped if grouped.count(name) > 1}
    if twice:
      raise errors.UserError(
          f'balancer.harmony.groups has {", ".join(sorted(twice))} in two '
          'groups; leave it in one')
    self.logarithms = tuple(
        tf.Variable(0.0, name=f'logarithm/{"_".join(group)}')
        for group in self._groups)

  def __call__(self, means):
    self._check_built()
    scales = dict(self._scales)
    rest = dict(means)
    terms, metrics = [], {}
    for group, logarithm in zip(self._groups, self.logarithms, strict=True):
      names = self._members(group, means)
      weights = [scales.get(name, 1.0) for name in names]
      loss = tf.add_n([
          weight / sum(weights) * rest.pop(name)
          for name, weight in zip(names, weights, strict=True)])
      s = tf.convert_to_tensor(logarithm)
      terms.append(loss * tf.exp(-s) + tf.math.softplus(s))
      metrics[f'harmony_weight_{"_".join(group)}'] = tf.exp(-s)
    terms += [scales.get(k, 1.0) * v for k, v in rest.items()]
    return tf.add_n(terms), metrics

  @property
  def trainable_variables(self):
    self._check_built()
    return super().trainable_variables

  def _check_built(self) -> None:
    if len(self.logarithms) != len(self._groups):
      raise errors.UserError(
          f'{self.name} is not built; call its build(names) first')

  def _members(self, group, names):
    """Returns the loss names that belong to a group, in their own order."""
    return [
        name for name in names
        if any(name == g or name.startswith(f'{g}/') for g in group)]
