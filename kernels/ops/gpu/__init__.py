"""Kernels in Triton, one operation a file. What imports triton is imported only where a
GPU serves.

A kernel's arguments are annotated as tensors, whole numbers too: triton takes `int` for 32 bits,
and a stride may need more.
"""
