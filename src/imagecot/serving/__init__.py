"""A process that keeps models loaded and draws what it is asked for on this machine, and the client that asks it."""
