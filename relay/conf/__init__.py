"""The configuration: oslo.config's options, read once into `relay.settings`.

`options` declares, `values` parses single values, `load` reads and checks the whole.
"""
