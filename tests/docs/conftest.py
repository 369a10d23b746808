"""Lends the rig to the tests of this directory."""

from tests.rig.fixtures import rig

__all__ = ["rig"]
