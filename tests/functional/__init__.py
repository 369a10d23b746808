"""Tests that drive the real programs against real job servers."""
