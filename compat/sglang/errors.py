"""What goes wrong between a program and where it runs."""

from ramet.errors import RametError


class BackendError(RametError):
    """A server that cannot be reached, or refuses; its answer is in the message."""


class UnsupportedError(RametError, NotImplementedError):
    """Something of SGLang that this face does not have; the message says what to use instead."""
