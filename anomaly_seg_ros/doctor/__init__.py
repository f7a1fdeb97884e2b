"""What a machine can run and what a camera topic carries, found out before the vehicle rolls."""
