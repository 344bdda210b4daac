"""What engines of this machine are doing."""
