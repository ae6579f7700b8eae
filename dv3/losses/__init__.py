"""Losses and what they see."""

from dv3.losses.context import Context
from dv3.losses.context import Imagined
from dv3.losses.returns import lambda_return
from dv3.losses.returns import lambda_target

__all__ = ['Context', 'Imagined', 'lambda_return', 'lambda_target']
