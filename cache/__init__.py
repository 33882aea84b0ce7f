"""Key/value blocks by id and hash: who holds what, what is shared, what goes. No tensors."""
