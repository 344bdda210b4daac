"""Use cases and the ports they need. No tensor library is imported here."""
