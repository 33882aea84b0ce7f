"""Feed the parser and the graph loader mutated inputs for a while, and tell how many.

Guided by coverage where atheris is installed (the extra `fuzz`), else by chance alone. An input
that breaks a law is written to `build/fuzz/`, and the exit status is 1.

    python tools/fuzz.py --minutes 60
"""

import argparse
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "fuzz"
SECONDS = 1  # that one input may take
sys.path.insert(0, str(ROOT))


def main() -> None:
    options = argparse.ArgumentParser(description="Feed the language mutated inputs.")
    options.add_argument("--minutes", type=float, default=60.0, help="for all targets together")
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--target", choices=("sources", "graphs"), help="only this one, here")
    given = options.parse_args()
    if given.target is not None:
        fuzz(given.target, given.minutes * 60, given.seed)
        return
    failed = False
    for target in ("sources", "graphs"):
        arguments = ["--minutes", str(given.minutes / 2), "--seed", str(given.seed)]
        command = [sys.executable, __file__, "--target", target, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        counts = re.findall(r"Done (\d+) (?:runs )?in (\d+) second", done.stdout)
        inputs, seconds = counts[-1] if counts else ("?", "?")
        print(
            f"{target}: {inputs} inputs in {seconds} s; {'ok' if not done.returncode else 'FAILED'}"
        )
        if done.returncode:
            failed = True
            print(done.stdout[-4_000:])
    sys.exit(failed)


def fuzz(target: str, seconds: float, seed: int) -> None:
    try:
        import atheris
    except ImportError:
        by_chance(target, seconds, seed)
    else:
        by_coverage(atheris, target, seconds, seed)


def by_chance(target: str, seconds: float, seed: int) -> None:
    check, mutate, seeds = parts(target)
    random, begin, count = Random(seed), time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        judge(check, mutate(random, random.choice(seeds), seeds))
        count += 1
    print(f"Done {count} runs in {int(time.monotonic() - begin)} second(s)")


def by_coverage(atheris: Any, target: str, seconds: float, seed: int) -> None:
    with atheris.instrument_imports(include=["ramet"]):
        check, mutate, seeds = parts(target)
    corpus = OUT / target
    corpus.mkdir(parents=True, exist_ok=True)
    for at, text in enumerate(seeds):
        (corpus / f"seed{at}").write_bytes(encoded(text))

    def one(data: bytes) -> None:
        judge(check, decoded(data))

    def mutator(data: bytes, most: int, number: int) -> bytes:
        """Our own, which knows words and lines, takes turns with the fuzzer's, which does not."""
        random = Random(number)
        if random.random() < 0.5:
            return atheris.Mutate(data, most)
        try:
            return encoded(mutate(random, decoded(data), seeds))[:most]
        except ValueError:  # it is no JSON any more
            return atheris.Mutate(data, most)

    arguments = [f"-max_total_time={int(seconds)}", f"-seed={seed % 2**31 or 1}", "-max_len=20000"]
    arguments += [f"-timeout={10 * SECONDS}", f"-artifact_prefix={OUT}/"]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one, custom_mutator=mutator)
    atheris.Fuzz()


def parts(
    target: str,
) -> tuple[Callable[[str], bool], Callable[[Random, str, Any], str], list[str]]:
    """What checks an input, what makes one of another, and what to begin with."""
    from tests.frontend_lang.syntax import fuzzing

    if target == "sources":
        return fuzzing.check_source, fuzzing.mutated_source, fuzzing.sources(200)
    return fuzzing.check_graph, fuzzing.mutated_graph, fuzzing.graph_texts(100)


def judge(check: Callable[[str], bool], text: str) -> None:
    before = time.process_time()
    try:
        check(text)
        assert time.process_time() - before < SECONDS, "it took too long"
    except BaseException:
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / f"failure-{abs(hash(text)):x}").write_bytes(encoded(text))
        traceback.print_exc()
        raise


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def decoded(data: bytes) -> str:
    """Bytes that are no UTF-8 stand for lone surrogates."""
    return data.decode(errors="surrogateescape")


if __name__ == "__main__":
    main()
