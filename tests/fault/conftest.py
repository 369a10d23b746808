"""Lends the rig's fixtures to the tests of this directory."""

from tests.rig.fixtures import rig, server_kind, unique_server_kind

__all__ = ["rig", "server_kind", "unique_server_kind"]
