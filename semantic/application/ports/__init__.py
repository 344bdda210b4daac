"""What the application needs from the outside, as protocols. Adapters fulfil them; fakes do too."""
