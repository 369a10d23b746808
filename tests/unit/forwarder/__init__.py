"""The forwarder, alone."""
