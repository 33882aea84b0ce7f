"""Sections on the parts: linear layers, kernels, growth, the cache."""

from collections.abc import Sequence

from reporting import plots
from reporting.outside import reached
from reporting.records import Record, Row
from reporting.section import Body
from reporting.tables import number, percent, plain, table, times

KERNEL = {
    "kernel",
    "size",
    "microseconds",
    "gigabytes_per_s",
    "of_bandwidth",
    "gigaflops",
    "of_flops",
}
CROSSOVER = {"fan", "shared", "chosen"}
SHARING = ("by its own", "with a shared prefix")
BUILT = ", as built"


def linear(record: Record, body: Body) -> None:
    kinds = list(record.rows[0]["gops"])
    body.say(
        table(
            ["batch", *kinds],
            ([row["batch"], *(row["gops"][kind] for kind in kinds)] for row in record.rows),
        )
    )
    series = {kind: [(row["batch"], row["gops"][kind]) for row in record.rows] for kind in kinds}
    body.show(
        "linear",
        plots.lines({"all shapes": series}, "batch", "GOP/s"),
        "GOP/s of linear layers by batch",
    )
    shapes = list(record.rows[0]["gops_by_shape"][kinds[0]])
    body.say("By shape:")
    body.say(
        table(
            ["batch", "kind", *shapes],
            (
                [row["batch"], kind, *(row["gops_by_shape"][kind][shape] for shape in shapes)]
                for row in record.rows
                for kind in kinds
            ),
        )
    )


def layers(record: Record, body: Body) -> None:
    ways = list(record.rows[0]["ms"])
    body.say(
        table(
            ["", "sequences", *ways, "ratio", "equal"],
            (
                [
                    row["dtype"],
                    row["batch"],
                    *(row["ms"][way] for way in ways),
                    times(row["ratio"]),
                    "yes" if row["equal"] else "**no**",
                ]
                for row in record.rows
            ),
        )
    )


def quality(record: Record, body: Body) -> None:
    first = record.rows[0]
    body.say(
        f"What is built, over {first['tokens']:,} tokens: the same likeliest token in "
        f"**{percent(first['agreement'], 2)}** of the places (to reach: "
        f"{percent(first['agreement_target'])}, reached: "
        f"{reached(first['agreement'], first['agreement_target'])}), perplexity "
        f"**{first['perplexity_ratio']:.4f}×** that of float32, {first['perplexity']} (at most "
        f"{first['perplexity_ratio_target']}×, reached: "
        f"{reached(first['perplexity_ratio'], first['perplexity_ratio_target'], most=True)})."
    )
    for row in record.rows[1:]:
        if row.get("variant", "").endswith(BUILT):
            body.say(
                f"{row['variant'].removesuffix(BUILT)}: the same likeliest token in "
                f"**{percent(row['agreement'], 2)}**, perplexity "
                f"**{row['perplexity_ratio']:.4f}×**."
            )
    variants = [
        row
        for at, row in enumerate(record.rows)
        if "variant" in row and (at == 0 or not row["variant"].endswith(BUILT))
    ]
    if len(variants) > 1:
        body.say("Other ways to quantize, imitated in float32 on the same tokens:")
        body.say(
            table(
                ["way", "same likeliest token", "perplexity to float32's"],
                (
                    [
                        row["variant"],
                        percent(row["agreement"], 2),
                        f"{row['perplexity_ratio']:.4f}×",
                    ]
                    for row in variants
                ),
            )
        )


def kernels(record: Record, body: Body) -> None:
    ceilings = [row for row in record.rows if "ceiling" in row]
    measured = [row for row in record.rows if row.keys() >= KERNEL]
    sweep = [row for row in record.rows if row.keys() >= CROSSOVER]
    for row in ceilings:
        body.say(
            f"Ceilings, measured in the same call: {number(row['gigabytes_per_s'])} GB/s, "
            f"{number(row['gigaflops'])} GFLOP/s in float32."
        )
    if measured:
        body.say(
            table(
                ["kernel", "size", "µs", "GB/s", "of bandwidth", "GFLOP/s", "of float32's"],
                (
                    [
                        row["kernel"],
                        row["size"],
                        row["microseconds"],
                        row["gigabytes_per_s"],
                        percent(row["of_bandwidth"]),
                        row["gigaflops"],
                        percent(row["of_flops"]),
                    ]
                    for row in measured
                ),
            )
        )
        labels = [f"{row['kernel']}, {row['size']}" for row in measured]
        groups = {
            "bandwidth": [row["of_bandwidth"] for row in measured],
            "float32 product": [row["of_flops"] for row in measured],
        }
        body.show(
            "kernels",
            plots.bars(labels, groups, "share of the ceiling", line=1),
            "Share of the machine's bandwidth and arithmetic that each kernel reaches",
        )
    if sweep:
        _crossover(sweep, body)
    drawn = {id(row) for row in (*ceilings, *measured, *sweep)}
    rest = [row for row in record.rows if id(row) not in drawn]
    if rest:
        body.say(plain(rest))


def _crossover(sweep: Sequence[Row], body: Body) -> None:
    fans = sorted({row["fan"] for row in sweep})
    shared = sorted({row["shared"] for row in sweep})
    found = {(row["fan"], row["shared"]): row for row in sweep}
    body.say(
        "Where sharing pays: attention of 64 sequences in families of `fan` that share their first "
        "tokens, over the time without sharing (under 1 is faster). First as the engine chooses, "
        "then with all that could be shared."
    )
    for key, title in (("chosen", "as chosen"), ("always", "always shared")):
        if not all(key in row for row in sweep):
            continue
        values = [[found[fan, tokens][key] for tokens in shared] for fan in fans]
        body.show(
            f"crossover-{key}",
            plots.matrix(
                [f"fan {fan}" for fan in fans],
                [str(tokens) for tokens in shared],
                values,
                f"{title}: time over that without sharing, by shared tokens",
            ),
            f"Time of attention {title}, over that without sharing",
        )
    worst = max(sweep, key=lambda row: row["chosen"])
    best = min(sweep, key=lambda row: row["chosen"])
    body.say(
        f"As chosen, from {times(best['chosen'])} (fan {best['fan']}, {best['shared']} tokens) to "
        f"{times(worst['chosen'])} (fan {worst['fan']}, {worst['shared']} tokens)."
    )


def scaling(record: Record, body: Body) -> None:
    rows = [row for row in record.rows if row.get("part") == "decode"]
    float32 = [row for row in rows if row["dtype"] == "float32"]
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        _decode_table(dtype, [row for row in rows if row["dtype"] == dtype], body)
    panels: dict[str, plots.Series] = {}
    for shared, title in zip((False, True), SHARING, strict=True):
        there = [row for row in float32 if row["shared"] is shared and "ms" in row]
        panels[f"each context {title}"] = {
            f"{context:,} tokens": [
                (row["batch"], row["ms"]) for row in there if row["context"] == context
            ]
            for context in sorted({row["context"] for row in there})
        }
    if all(panels.values()):
        body.show(
            "decode",
            plots.lines(panels, "batch", "ms a step, float32", logx=4),
            "Milliseconds of a decode step by batch, for contexts of several lengths",
        )


def _decode_table(dtype: str, rows: Sequence[Row], body: Body) -> None:
    batches = sorted({row["batch"] for row in rows})
    found = {(row["shared"], row["context"], row["batch"]): row for row in rows}
    body.say(f"Milliseconds of a decode step in {dtype}, by batch:")
    body.say(
        table(
            ["context", "", *(str(batch) for batch in batches)],
            (
                [
                    f"{context:,}",
                    SHARING[shared],
                    *(_milliseconds(found.get((shared, context, batch))) for batch in batches),
                ]
                for context in sorted({row["context"] for row in rows})
                for shared in (False, True)
            ),
        )
    )
    skipped = [row for row in rows if "skipped" in row]
    if skipped:
        told = "; ".join(
            f"{row['batch']} × {row['context']:,}: {row['skipped']}" for row in skipped
        )
        body.say(f"Left out for want of memory: {told}.")


def _milliseconds(row: Row | None) -> str:
    return "–" if row is None or "ms" not in row else number(float(row["ms"]))


def bookkeeping(record: Record, body: Body) -> None:
    rows = [row for row in record.rows if row.get("part") == "bookkeeping"]
    if not rows:
        body.say("Not measured yet.")
        return
    parts = list(rows[0]["us_per_sequence"])
    for sweep, title in (
        ("sequences", "By sequences"),
        ("blocks", "By the pool's blocks"),
        ("context", "By tokens of context"),
    ):
        here = sorted((row for row in rows if row["sweep"] == sweep), key=lambda row: row[sweep])
        body.say(f"{title}, microseconds a sequence and step:")
        body.say(
            table(
                ["sequences", "blocks", "context", *parts, "whole step, ms", "turnover, µs"],
                (
                    [
                        f"{row['sequences']:,}",
                        f"{row['blocks']:,}",
                        f"{row['context']:,}",
                        *(row["us_per_sequence"][part] for part in parts),
                        row["ms_per_step"],
                        row["us_per_turnover"],
                    ]
                    for row in here
                ),
            )
        )
    names = {"sequences": "by sequences", "blocks": "by blocks", "context": "by tokens of context"}
    panels = {
        names[sweep]: {
            part: sorted(
                (row[sweep], row["us_per_sequence"][part]) for row in rows if row["sweep"] == sweep
            )
            for part in parts
        }
        for sweep in names
    }
    body.show(
        "bookkeeping",
        plots.lines(panels, "", "µs a sequence and step", logx=4),
        "Microseconds of scheduling, packing and committing, a sequence",
    )


def cache(record: Record, body: Body) -> None:
    body.say(
        table(
            ["milliseconds", "median", "mean", "worst"],
            (
                [row["act"], *(float(row[k]) for k in ("median", "mean", "worst"))]
                for row in record.rows
            ),
        )
    )


def eviction(record: Record, body: Body) -> None:
    orders = list(record.rows[0]["again"])
    body.say("Thousands of tokens computed again; `plan 16`: the next 16 requests are known.")
    body.say(
        table(
            ["trace", "blocks", *orders],
            (
                [row["trace"], row["pool"], *(row["again"][each] / 1e3 for each in orders)]
                for row in record.rows
            ),
        )
    )
    traces = list(dict.fromkeys(row["trace"] for row in record.rows))
    middle = {}
    for trace in traces:
        found = [row for row in record.rows if row["trace"] == trace]
        middle[trace] = found[len(found) // 2]
    groups = {
        order: [row["again"][order] / (row["again"]["lru"] or 1) for row in middle.values()]
        for order in orders
    }
    body.show(
        "eviction",
        plots.bars(list(middle), groups, "tokens computed again, as a share of LRU's"),
        "Tokens computed again under each order of eviction, over those under LRU",
    )


def programs(record: Record, body: Body) -> None:
    waiting = [row for row in record.rows if "bytes" in row]
    few_shot = [row for row in record.rows if "share" in row]
    body.say(
        table(
            [
                "programs that wait, as",
                "number",
                "bytes each",
                "at most",
                "new threads",
                "µs to start",
            ],
            (
                [
                    row["form"],
                    f"{row['programs']:,}",
                    f"{row['bytes']:,}",
                    f"{row['most_bytes']:,}",
                    row["new_threads"],
                    row["start_us"],
                ]
                for row in waiting
            ),
        )
    )
    body.say(
        table(
            [
                "workload",
                "steps",
                "our share of CPU time",
                "if two cores halved the model's",
                "at most",
            ],
            (
                [
                    row["workload"],
                    row["steps"],
                    percent(row["share"], 1),
                    percent(row["share_two_cores"], 1),
                    percent(row["most_share"], 1),
                ]
                for row in few_shot
            ),
        )
    )
