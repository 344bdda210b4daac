"""The domain: blocks, sequences and experiments as pure Python. It names and counts; tensors live behind a port."""
