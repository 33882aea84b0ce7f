"""Types made to cost much, and a process that measures what they cost.

    python -m tests.runtime.grammar.bombs [NAME...]

Prints one JSON object per type: seconds of CPU time to compile it (and to try it out), the most for
one of the steps that follow, MiB of memory beyond what there was before, and CPU time that was used
after all that, while nothing was to be done. Each type has a process of its own, forked from one
that has read the vocabulary of the embedded model.
"""

import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ramet.errors import RametError
from ramet.runtime.grammar import GrammarCompiler
from ramet.types import Type, json_type
from tests.runtime.grammar.walks import walk
from tests.runtime.tokenizers import smollm2

STEPS = 25
MOST = 8  # seconds, after which the process is ended
LATER = 2.0  # seconds after the answer
WATCHED = 0.3


def regex(source: str) -> Callable[[], Type]:
    return lambda: Type("regex", source)


def lark(source: str) -> Callable[[], Type]:
    return lambda: Type("grammar", source)


def schema(make: Callable[[], Any]) -> Callable[[], Type]:
    return lambda: json_type(make())


def nested(depth: int, wrap: Callable[[Any], Any], inner: Any) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def _items(inner: Any) -> dict[str, Any]:
    return {"type": "array", "items": inner}


def _property(inner: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"p": inner}, "required": ["p"]}


def _doubling(levels: int, key: str) -> dict[str, Any]:
    """Each definition names the one below twice."""
    defs: dict[str, Any] = {"d0": {"type": "string"}}
    for i in range(1, levels):
        below = {"$ref": f"#/$defs/d{i - 1}"}
        if key == "properties":
            defs[f"d{i}"] = {"type": "object", "properties": {"a": below, "b": below}}
        else:
            defs[f"d{i}"] = {key: [below, {"type": "array", "items": below}]}
    return {"$defs": defs, "$ref": f"#/$defs/d{levels - 1}"}


def _ring(size: int) -> dict[str, Any]:
    defs = {f"r{i}": {"$ref": f"#/$defs/r{(i + 1) % size}"} for i in range(size)}
    return {"$defs": defs, "$ref": "#/$defs/r0"}


def _row(size: int, key: str = "") -> dict[str, Any]:
    """Each definition is the one after it, or holds it."""
    defs: dict[str, Any] = {f"r{size}": {"type": "null"}}
    for i in range(size):
        below = {"$ref": f"#/$defs/r{i + 1}"}
        match key:
            case "properties":
                defs[f"r{i}"] = {"type": "object", "properties": {"p": below}}
            case "anyOf":
                defs[f"r{i}"] = {"anyOf": [below, {"type": "boolean"}]}
            case _:
                defs[f"r{i}"] = below
    return {"$defs": defs, "$ref": "#/$defs/r0"}


def _properties(count: int, required: bool) -> dict[str, Any]:
    names = [f"name{i}" for i in range(count)]
    made: dict[str, Any] = {"type": "object", "properties": {n: {"type": "integer"} for n in names}}
    return {**made, "required": names} if required else made


def _tree(options: int) -> dict[str, Any]:
    """Recursive in many ways at once."""
    ways = [{"type": "object", "properties": {f"k{i}": {"$ref": "#"}}} for i in range(options)]
    return {"anyOf": [{"type": "null"}, *ways]}


def _rules(levels: int, line: str) -> str:
    rules = [line.format(i=i, j=i + 1) for i in range(levels)]
    return "\n".join([f'start: r0\nr{levels}: "x"', *rules]) + "\n"


BOMBS: dict[str, Callable[[], Type]] = {
    # counts
    "counts of counts": regex("(a{1000}){1000}"),
    "counts of counts, fewer": regex("(a{500}){500}"),
    "counts of counts of counts": regex("((a{100}){100}){100}"),
    "five counts deep": regex("((((a{20}){20}){20}){20}){20}"),
    "words of words": regex(r"(\w{1,200}){1,200}"),
    "a huge count": regex("a{1000000}"),
    "a huge range": regex("a{1,999999}"),
    "a huge count of any": regex("(?s).{100000}"),
    "a huge least": regex("[a-z]{50000,}"),
    "counts of unicode": regex(r"\w{5000}"),
    "counts of letters of all scripts": regex(r"(\p{L}{1,100}\p{N}{1,100}){50}"),
    "optional, and then as many": regex("a?" * 3000 + "a" * 3000),
    # ambiguity
    "starred stars": regex("((a*)*)*b"),
    "many starred stars": regex("(" * 500 + "a" + "*)" * 500 + "*b"),
    "plus of plus": regex("(((a+)+)+)+$"),
    "a bit a while ago": regex("(a|b)*a(a|b){200}"),
    "a bit long ago": regex("(a|b)*a(a|b){2000}"),
    "any and any": regex("(?s)" + ".*" * 300),
    "anys and equals": regex("(.*.*=.*){20}"),
    "overlapping": regex("(a.{0,99}b|b.{0,99}c|.{0,60}x)*"),
    "overlapping words": regex(r"(\w+\s?){1,99}(\w*\d\w*){1,99}"),
    "alternating prefixes": regex("|".join("a" * i + "b" for i in range(1, 300))),
    "products of choices": regex("".join(f"(a{i}|b{i}|a{i}b{i})*" for i in range(400))),
    "shuffled anys": regex("|".join(f".*{c}.*{d}" for c in "abcdefghij" for d in "klmnopqrst")),
    "intersections of tails": regex(".*a.{15}|.*b.{16}|.*c.{17}|.*d.{18}|.*e.{19}"),
    # size
    "deep": regex("(" * 20_000 + "a" + ")" * 20_000),
    "deep classes": regex("[" * 3000 + "a" + "]" * 3000),
    "deep choices": regex("(a|" * 10_000 + "b" + ")" * 10_000),
    "wide": regex("|".join(f"w{i}x" for i in range(9_000))),
    "wide and any": regex("|".join(f"w{i}.*x" for i in range(5_000))),
    "wide and starred": regex("(" + "|".join(f"w{i}x" for i in range(8_000)) + ")*"),
    "long": regex("abc def " * 8_000),
    "classes of unicode": regex(r"[\w&&[^\d]]*" * 200),
    "many classes of unicode": regex(r"(\p{Greek}|\p{Han}|\p{Cyrillic}|\p{Lu}|\p{Ll})*" * 300),
    "no case": regex("(?i)" + "straße" * 1_000),
    "no case of all": regex("(?i)(\\w|\\W|[\u017f\u212a\u212b])*" * 300),
    "negations": regex("".join(f"[^{chr(97 + i % 26)}]*" for i in range(3_000))),
    # schemas
    "deep arrays": schema(lambda: nested(400, _items, {"type": "integer"})),
    "arrays, less deep": schema(lambda: nested(90, _items, {"type": "integer"})),
    "deep objects": schema(lambda: nested(100, _property, {"type": "string"})),
    "deep choices of schemas": schema(
        lambda: nested(80, lambda x: {"anyOf": [x, {"type": "null"}]}, {"type": "string"})
    ),
    "choices that double": schema(lambda: _doubling(40, "anyOf")),
    "choices of one that double": schema(lambda: _doubling(40, "oneOf")),
    "all of that double": schema(lambda: _doubling(30, "allOf")),
    "properties that double": schema(lambda: _doubling(60, "properties")),
    "a ring of references": schema(lambda: _ring(500)),
    "references in a row": schema(lambda: _row(1_500)),
    "objects in a row of references": schema(lambda: _row(800, "properties")),
    "choices in a row of references": schema(lambda: _row(900, "anyOf")),
    "a reference to itself": schema(lambda: {"$ref": "#"}),
    "a tree of many kinds": schema(lambda: _tree(300)),
    "an enum of 100,000": schema(lambda: {"enum": list(range(100_000))}),
    "an enum of 9,000": schema(lambda: {"enum": list(range(9_000))}),
    "an enum of long texts": schema(lambda: {"enum": [f"{i} " * 20 for i in range(500)]}),
    "a list of enums": schema(
        lambda: {"type": "array", "items": {"enum": [f"value {i}" for i in range(3_000)]}}
    ),
    "a billion items": schema(lambda: {"type": "array", "items": {}, "minItems": 10**9}),
    "10,000 items": schema(lambda: {**_items({"type": "boolean"}), "minItems": 10_000}),
    "at most a million items": schema(lambda: {**_items(_items({})), "maxItems": 10**6}),
    "lists of lists with counts": schema(
        lambda: nested(8, lambda x: {**_items(x), "minItems": 90, "maxItems": 99}, {})
    ),
    "a million characters": schema(lambda: {"type": "string", "minLength": 10**6}),
    "at most a million characters": schema(lambda: {"type": "string", "maxLength": 10**6}),
    "lists of long strings": schema(lambda: _items({"type": "string", "minLength": 30_000})),
    "2,000 properties": schema(lambda: _properties(2_000, required=False)),
    "1,500 required properties": schema(lambda: _properties(1_200, required=True)),
    "pattern in a schema": schema(lambda: {"type": "string", "pattern": "(a{1000}){1000}"}),
    "patterns of names": schema(
        lambda: {
            "type": "object",
            "patternProperties": {f"^.*{i}.*$": {"type": "integer"} for i in range(300)},
        }
    ),
    "names by a costly pattern": schema(
        lambda: {"type": "object", "patternProperties": {r"^(\w{1,200}){1,200}$": True}}
    ),
    "all of many patterns": schema(
        lambda: {"allOf": [{"type": "string", "pattern": f".*a.{{{i}}}"} for i in range(15, 40)]}
    ),
    "many multiples": schema(
        lambda: {"allOf": [{"type": "integer", "multipleOf": p} for p in (9973, 9967, 9949, 9941)]}
    ),
    "a huge multiple": schema(lambda: {"type": "integer", "multipleOf": 10**15 + 37}),
    "bounds with many digits": schema(
        lambda: {"type": "integer", "minimum": -(10**300), "maximum": 10**300 + 7}
    ),
    "a number between hairs": schema(
        lambda: {"type": "number", "minimum": 1e-300, "maximum": 1.0000000000000002e300}
    ),
    # grammars
    "left recursion": lark('start: start "a" | "a"\n'),
    "hidden left recursion": lark('start: e start "b" | "c"\ne: "a"*\n'),
    "ambiguous rules": lark('start: "a" start | start "a" | start start | "b" | ""\n'),
    "right recursion": lark('start: "a" start | "a" start "b" | "b"\n'),
    "three of itself": lark('start: start start start | start start | "a"\n'),
    "many terms": lark("start: " + " ".join(['"a"'] * 8_000) + "\n"),
    "counts of rules": lark('start: a{900}\na: b{900}\nb: c{900}\nc: "x"|"y"\n'),
    "optional counts of rules": lark('start: a{0,999}\na: b{0,999}\nb: "x"?\n'),
    "rules that double": lark(_rules(40, "r{i}: r{j} r{j}")),
    "rules that double, or not": lark(_rules(400, "r{i}: r{j} r{j} | r{j} |")),
    "rules in a row": lark(_rules(3_000, "r{i}: r{j}")),
    "terminals that double": lark(
        "start: T0\n" + "".join(f"T{i}: T{i + 1} T{i + 1}\n" for i in range(40)) + 'T40: "x"\n'
    ),
    "terminals of counts": lark("start: T{1000}\nT: U{1000}\nU: /(a{100}){100}/\n"),
    "many terminals alike": lark(
        "start: ("
        + "|".join(f"T{i}" for i in range(1_500))
        + ")*\n"
        + "".join(f"T{i}: /[a-z]*{i}/\n" for i in range(1_500))
    ),
    "many terminals of anything": lark(
        "start: ("
        + "|".join(f"T{i}" for i in range(400))
        + ")*\n"
        + "".join(f"T{i}: /.*a.{{{i % 40}}}/\n" for i in range(400))
    ),
    "intersections": lark(
        "start: T\nT: " + " & ".join(f"/.*a.{{{i}}}/" for i in range(9, 30)) + "\n"
    ),
    "complements": lark("start: T\nT: ~(~(/.*a.{18}/) & ~(/.*b.{19}/))\n"),
    "a schema inside": lark(
        "start: %json " + json.dumps({"type": "array", "items": {}, "minItems": 10**8}) + "\n"
    ),
    "parentheses": lark("start: " + "(" * 5_000 + '"a"' + ")" * 5_000 + "\n"),
}


def cost(compiler: GrammarCompiler, name: str) -> dict[str, Any]:
    """What the type costs here. For a process that does nothing else."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST, MOST))
    before = resident()
    started, wall = used(), time.perf_counter()
    answer, steps = "went on", [0.0]
    compiled, step = None, 0.0
    try:
        grammar = compiler.start(BOMBS[name]())
        compiled = used() - started
        rng = random.Random(3)
        for _ in range(STEPS):
            step = used()
            grammar.look_ahead()
            walk(grammar, rng, 1, ending=0)
            steps.append(used() - step)
    except RametError as error:
        answer = f"{type(error).__name__}: {error}"
        steps.append(used() - step if compiled is not None else 0)
    total, wall = used() - started, time.perf_counter() - wall
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    time.sleep(LATER)
    idle = used()
    time.sleep(WATCHED)
    return {
        "name": name,
        "answer": answer[:200],
        "compiled": round(total if compiled is None else compiled, 3),
        "step": round(max(steps), 3),
        "wall": round(wall, 3),
        "mib": round(most, 1),
        "later": round(used() - idle, 4),
    }


def costs(names: list[str]) -> Iterator[dict[str, Any]]:
    """What each type costs, each in a process of its own; one that dies has no `answer`.

    The next one begins as soon as one is answered.
    """
    tokenizer = smollm2()
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)
    assert compiler._vocabulary.size
    running: list[tuple[str, int, int]] = []
    for name in names:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            os.write(write, json.dumps(cost(compiler, name)).encode())
            os._exit(0)
        os.close(write)
        running.append((name, child, read))
        if len(running) > 7:
            yield _outcome(*running.pop(0))
    for each in running:
        yield _outcome(*each)


def _outcome(name: str, child: int, read: int) -> dict[str, Any]:
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(told) if told else {"name": name, "died": status}


def used() -> float:
    """Seconds of CPU time, also of the processes that were begun here and ended."""
    return sum(os.times()[:4])


def resident() -> float:
    """MiB of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


if __name__ == "__main__":
    for row in costs(sys.argv[1:] or list(BOMBS)):
        print(json.dumps(row), flush=True)
