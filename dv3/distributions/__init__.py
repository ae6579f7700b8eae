"""Distributions of the library, and its stateless random numbers."""

import tensorflow_probability as tfp

from dv3.distributions.base import Distribution
from dv3.distributions.continuous import Binary
from dv3.distributions.continuous import BoundedNormal
from dv3.distributions.continuous import Image
from dv3.distributions.continuous import SquaredError
from dv3.distributions.continuous import TruncatedNormal
from dv3.distributions.continuous import UnitNormal
from dv3.distributions.continuous import UnitNormalImage
from dv3.distributions.indices import Indices
from dv3.distributions.joint import Concatenated
from dv3.distributions.onehot import OneHot
from dv3.distributions.rng import Rng
from dv3.distributions.twohot import SymlogTwoHot
from dv3.distributions.twohot import TwoHot
from dv3.distributions.twohot import symexp_bins

kl_divergence = tfp.distributions.kl_divergence

__all__ = [
    'Binary', 'BoundedNormal', 'Concatenated', 'Distribution', 'Image',
    'Indices', 'OneHot', 'Rng', 'SquaredError', 'SymlogTwoHot',
    'TruncatedNormal', 'TwoHot', 'UnitNormal', 'UnitNormalImage',
    'kl_divergence', 'symexp_bins',
]
