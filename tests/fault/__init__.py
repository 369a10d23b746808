"""Tests that kill: nothing accepted is lost."""
