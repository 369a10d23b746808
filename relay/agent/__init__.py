"""The agent: builds the parts, connects them and runs them; the only package that knows all of them."""
