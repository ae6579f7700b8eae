"""The conformance suite: what every registered component must do.

  pytest --dv3-component=core:vendor.name

runs it on any component, in anyone's repository. This package is shipped; the
pytest plugin is `dv3.testing.plugin`.
"""
