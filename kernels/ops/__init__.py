"""Paged attention and block copies: tensors in, tensors out. Nothing here knows a request.

A step is one *varlen batch*: the query tokens of all sequences lie end to end (`T` of them), some
sequences bring one (decode), some a chunk (prefill). A backend first makes a plan of the step from
the block tables, once; then every layer writes its keys and values and attends through that plan:

    plan = backend.plan(step)
    for layer in layers:
        query = backend.write_joined(plan, layer, joined, rotary)  # or write(…, key, value)
        out = backend.attend(plan, layer, query, …)                # [T, heads, head_dim]

`reference.py` says what the answer is; every other backend is held against it by test.
"""

from ramet.kernels.backend import Backend, backend_for
from ramet.kernels.layout import KVCache, KVLayout, Step, Tree
from ramet.kernels.rotary import HeadNorms, Rotary

__all__ = [
    "Backend",
    "HeadNorms",
    "KVCache",
    "KVLayout",
    "Rotary",
    "Step",
    "Tree",
    "backend_for",
]
