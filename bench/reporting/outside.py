"""Sections on what a program takes as a whole, beside others."""

from reporting import plots
from reporting.records import Record, Row
from reporting.section import Body
from reporting.tables import cell, number, percent, plain, table, times

NARROW = ("bfloat16", "int8")
OURS = ("float32", *NARROW)
PEERS = (
    "vllm bfloat16",
    "vllm float32",
    "llama.cpp Q4_1",
    "transformers float32",
    "transformers bfloat16",
    "continuous batching",
)


def peers(record: Record, body: Body) -> None:
    rows = [row for row in record.rows if "per_s" in row]
    others = [row for row in record.rows if "per_s" not in row]
    if rows:
        _speeds(rows, body)
        _ratios(rows, body)
        _missing(rows, body)
    if others:
        body.say(plain(others))


def _speeds(rows: list[Row], body: Body) -> None:
    found = {name for row in rows for name in row["per_s"]}
    ours = [name for name in OURS if name in found]
    names = [name for name in PEERS if name in found]
    names += sorted(found - {*ours, *names})
    head = ["workload", "a second", *(f"ramet {name}" for name in ours), *names]
    lines: list[list[str]] = []
    for row in rows:
        best = max(row["per_s"].values())
        cells = []
        for name in (*ours, *names):
            speed = row["per_s"].get(name)
            shown = "–" if speed is None else number(float(speed))
            scaled = "\\*" if name in row.get("scaled", {}) else ""
            cells.append(f"**{shown}**{scaled}" if speed == best else f"{shown}{scaled}")
        lines.append([row.get("title", row["workload"]), row.get("unit", "tokens"), *cells])
    body.say(table(head, lines))
    body.say(
        "The fastest of a line is bold. A star: the peer did a part of the work, and its time was "
        "scaled up."
    )
    labels = [row["workload"] for row in rows]
    against = [name for name in names if any(name in row["per_s"] for row in rows)]
    groups = {
        name: [
            row["per_s"]["float32"] / row["per_s"][name]
            if name in row["per_s"] and "float32" in row["per_s"]
            else None
            for row in rows
        ]
        for name in against
    }
    if groups and labels:
        body.show(
            "peers",
            plots.bars(labels, groups, "ramet in float32, times as fast", log=True, line=1),
            "Speed of ramet in float32 over that of each peer, by workload",
        )


def _ratios(rows: list[Row], body: Body) -> None:
    lines = [
        [
            row["workload"],
            key.replace("/", " beside "),
            times(each["ratio"]),
            times(each.get("target")),
            reached(each["ratio"], each.get("target")),
            row.get("equal_texts", {}).get(_best(row, key.partition("/")[2]), "–"),
        ]
        for row in rows
        for key, each in row.get("ratios", {}).items()
    ]
    body.say("Ratios of neighbouring runs, beside the better of a peer's precisions:")
    body.say(
        table(["workload", "ramet", "ratio", "to reach", "reached", "equal texts, float32"], lines)
    )


def _best(row: Row, family: str) -> str | None:
    """The fastest peer of a family."""
    prefix = "continuous" if family == "continuous" else family
    found = {name: speed for name, speed in row["per_s"].items() if name.startswith(prefix)}
    return max(found, key=lambda name: found[name], default=None)


def _missing(rows: list[Row], body: Body) -> None:
    lacks = [
        (row["workload"], name, why) for row in rows for name, why in row.get("missing", {}).items()
    ]
    if lacks:
        body.say("Not measured:")
        body.say(table(["workload", "peer", "why"], lacks))


def reached(value: float, target: float | None, *, most: bool = False) -> str:
    if target is None:
        return "–"
    return "yes" if (value <= target if most else value >= target) else "**no**"


def bounds(record: Record, body: Body) -> None:
    limit = record.more["ceilings"]
    told = [f"{dtype} {number(limit[dtype] / 1e9)}" for dtype in OURS if dtype in limit]
    body.say(
        f"Billions of operations a second in registers: {', '.join(told)}. Read from memory: "
        f"{number(limit['read'] / 1e9)} GB/s."
    )
    body.say(
        table(
            ["workload", "a second", "", "at most", "for the target", "ours", "of the most"],
            (
                [
                    row["workload"],
                    row["unit"],
                    dtype,
                    number(most),
                    _needs(row["needed"].get(dtype), most),
                    number(row["per_s"][dtype]),
                    percent(row["per_s"][dtype] / most),
                ]
                for row in record.rows
                for dtype, most in row["at_most"].items()
            ),
        )
    )


def _needs(speed: float | None, most: float) -> str:
    """What a target needs; bold where nobody can have it."""
    if speed is None:
        return "–"
    return number(speed) if speed <= most else f"**{number(speed)}**"


def engine(record: Record, body: Body) -> None:
    narrow = [name for name in NARROW if f"{name}_tokens_per_s" in record.rows[0]]
    body.say(
        table(
            [
                "workload",
                "float32, tokens/s",
                *narrow,
                "transformers",
                "ratio",
                "to reach",
                "reached",
                *(f"{name} to float32" for name in narrow),
                "own time in a step",
                "equal texts",
            ],
            (
                [
                    row["workload"],
                    row["ours_tokens_per_s"],
                    *(row[f"{name}_tokens_per_s"] for name in narrow),
                    row["transformers_tokens_per_s"],
                    times(row["ratio"]),
                    times(row["target"]),
                    reached(row["ratio"], row["target"]),
                    *(times(row[f"{name}_to_float32"]) for name in narrow),
                    percent(row["own_share"], 1),
                    row["equal_texts"],
                ]
                for row in record.rows
            ),
        )
    )


def search(record: Record, body: Body) -> None:
    body.say(
        table(
            ["workload", "ratio", "to reach", "reached", "equal", "transformers did"],
            (
                [
                    row["workload"],
                    times(row["ratio"]),
                    times(row["target"]),
                    reached(row["ratio"], row["target"]),
                    row["equal"],
                    row.get("transformers_measured_on", "all of it"),
                ]
                for row in record.rows
            ),
        )
    )


def constrained(record: Record, body: Body) -> None:
    body.say(
        table(
            [
                "type",
                "free, ms a token",
                "typed",
                "ratio",
                "at most",
                "reached",
                "first texts",
                "forced",
                "drawn twice",
                "compiled in, ms",
            ],
            (
                [
                    row["workload"],
                    row["free_ms_per_token"],
                    row["typed_ms_per_token"],
                    times(row["ratio"]),
                    times(row["target"]),
                    reached(row["ratio"], row["target"], most=True),
                    times(row["first"]),
                    percent(row["forced"], 1),
                    percent(row.get("strayed"), 1),
                    row["compile_ms"],
                ]
                for row in record.rows
            ),
        )
    )


def sharing(record: Record, body: Body) -> None:
    rows = [row for row in record.rows if "method" in row]
    body.say(
        table(
            ["requests as in", "method", "width", "blocks saved", "the paper's range"],
            (
                [
                    row["trace"],
                    row["method"],
                    row["width"],
                    percent(row["saved"], 1),
                    " to ".join(percent(each, 1) for each in row["paper"]),
                ]
                for row in rows
            ),
        )
    )
    model = [row for row in record.rows if "saved_smollm2" in row]
    if model:
        body.say("Beams of SmolLM2 itself, and of the bigrams that stand for it in the table:")
        body.say(
            table(
                ["requests as in", "width", "SmolLM2", "bigrams"],
                (
                    [
                        row["trace"],
                        row["width"],
                        percent(row["saved_smollm2"], 1),
                        percent(row["saved_bigrams"], 1),
                    ]
                    for row in model
                ),
            )
        )


def gpu(record: Record, body: Body) -> None:
    told = record.more.get("gpu") or record.more.get("device") or {}
    if told:
        body.say(", ".join(f"{name} {value}" for name, value in dict(told).items()) + ".")
    body.say(
        table(
            ["workload", "µs", "reached", "to reach", "", "also"],
            (_gpu_line(row) for row in record.rows),
        )
    )


def _gpu_line(row: Row) -> list[object]:
    known = {"workload", "microseconds", "of_copy_bandwidth", "ratio", "target", "failed"}
    also = [
        f"{name.replace('_', ' ')} {cell(value)}"
        for name, value in row.items()
        if name not in known and isinstance(value, int | float | str)
    ]
    if "failed" in row:
        return [row["workload"], None, f"**failed**: {row['failed']}", None, None, None]
    target = row.get("target")
    if "of_copy_bandwidth" in row:
        value = row["of_copy_bandwidth"]
        shown = [f"{percent(value)} of a copy's bandwidth", percent(target)]
    else:
        value = row.get("ratio", 0.0)
        shown = [times(row.get("ratio")), times(target)]
    return [
        row["workload"],
        row.get("microseconds"),
        *shown,
        reached(value, target),
        "; ".join(also) or None,
    ]
