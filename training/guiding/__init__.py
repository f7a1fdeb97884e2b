"""What a run for own classes says before it starts, and shows when it has ended."""
