"""What the documents say is so: each test's docstring is the claim."""
