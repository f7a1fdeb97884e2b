"""What a process asks of the machine, and what it does when that fails or ends it."""
