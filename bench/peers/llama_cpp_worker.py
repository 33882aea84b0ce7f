"""llama.cpp behind a pipe: a line of JSON in, a line out. Runs in an environment of its own.

    python llama_cpp_worker.py MODEL.gguf THREADS

In: `{"prompt": [ids], "tokens": n}`. Out: `{"seconds": s, "tokens": [ids]}`, greedy, nothing cached
from before; an end of text is drawn like any other token.
"""

import json
import sys
from itertools import islice
from time import perf_counter

from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

llama = Llama(
    sys.argv[1],
    n_ctx=2048,
    n_threads=int(sys.argv[2]),
    n_threads_batch=int(sys.argv[2]),
    verbose=False,
)
for line in sys.stdin:
    asked = json.loads(line)
    llama.reset()
    llama._ctx.kv_cache_clear()
    started = perf_counter()
    tokens = list(islice(llama.generate(asked["prompt"], temp=0.0, reset=False), asked["tokens"]))
    print(json.dumps({"seconds": perf_counter() - started, "tokens": tokens}), flush=True)
