"""The protocol: packets, framing, and the conversations at both ends."""
