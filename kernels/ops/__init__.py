"""Paged attention and block copies: tensors in, tensors out."""
