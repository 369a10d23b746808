"""relay.client, module by module; the agent is a script."""
