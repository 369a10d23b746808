"""Tests of relay, named by what they prove: unit/ mirrors relay/, the others say what they do to it."""
