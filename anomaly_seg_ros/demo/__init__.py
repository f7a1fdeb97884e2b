"""The node as its own process, and the frames that it is shown."""
