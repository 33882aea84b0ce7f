"""Sections on the server."""

from reporting import plots
from reporting.outside import reached
from reporting.records import Record, Row
from reporting.section import Body
from reporting.tables import cell, number, percent, table, times


def calls(record: Record, body: Body) -> None:
    body.say(
        table(
            [
                "weights",
                "tokens of each",
                "round trip added, ms",
                "one program, s",
                "calls in turn",
                "calls at once",
                "in turn to program",
                "at once to program",
                "equal texts",
            ],
            (
                [
                    row["dtype"],
                    row["tokens"],
                    row["round_trip_ms"],
                    *(row["seconds"][name] for name in ("program", "in_turn", "at_once")),
                    times(row["ratio_in_turn"]),
                    times(row["ratio_at_once"]),
                    row["equal_texts"],
                ]
                for row in record.rows
            ),
        )
    )


def streams(record: Record, body: Body) -> None:
    body.say(
        table(
            [
                "weights",
                "streams",
                "tokens/s through SSE",
                "engine with its events",
                "engine",
                "SSE to engine",
                "to reach",
                "reached",
                "SSE to events",
                "loop, µs a token",
            ],
            (
                [
                    row["dtype"],
                    f"{row['streams']} × {row['tokens']} tokens",
                    *(row["tokens_per_s"][name] for name in ("http", "stream", "run")),
                    times(row["ratio"]),
                    times(row["target"]),
                    reached(row["ratio"], row["target"]),
                    times(row["ratio_to_stream"]),
                    row["us_of_loop_per_token"],
                ]
                for row in record.rows
            ),
        )
    )
    body.say(
        "Cores that each part was busy with, on average. The model's threads work for the engine; "
        "the loop is the server's HTTP side, and the clients share the machine."
    )
    ways = {"http": "SSE", "stream": "engine with its events", "run": "engine"}
    parts = {
        "engine": "engine's thread",
        "others": "model's threads",
        "loop": "event loop",
        "client": "clients",
    }
    body.say(
        table(
            ["weights", "", *parts.values()],
            (
                [row["dtype"], told, *(row["cpu"][way].get(part) for part in parts)]
                for row in record.rows
                for way, told in ways.items()
            ),
        )
    )


def overload(record: Record, body: Body) -> None:
    for row in record.rows:
        targets = row["targets"]
        body.say(
            f"{row['model']}, {row['workload']}. Peak: {number(row['peak_per_s'])} programs a "
            f"second. Sent: {number(row['sent_per_s'])} a second. Done: "
            f"{number(row['goodput_per_s'])} a second."
        )
        body.say(
            table(
                ["", "measured", "to reach", "reached"],
                [
                    [
                        "done under overload, of the peak",
                        percent(row["goodput"], 1),
                        f"at least {percent(targets['goodput'])}",
                        reached(row["goodput"], targets["goodput"]),
                    ],
                    [
                        "time to a refusal, 99th percentile",
                        milliseconds(row["refused_p99_ms"]),
                        f"at most {milliseconds(targets['refused_p99_ms'])}",
                        _most(row["refused_p99_ms"], targets["refused_p99_ms"]),
                    ],
                    ["time to a refusal, median", milliseconds(row["refused_p50_ms"]), "–", "–"],
                    ["time to an answer, median", milliseconds(row["done_p50_ms"]), "–", "–"],
                    [
                        "client late by, 99th percentile",
                        milliseconds(row["late_p99_ms"]),
                        "–",
                        "–",
                    ],
                ],
            )
        )
        body.say(f"Answers by status: {_counts(row['statuses'])}.")


def timing(record: Record, body: Body) -> None:
    body.say(
        table(
            [
                "who sent it before",
                "trials",
                "AUC",
                "95 % interval",
                "to reach",
                "reached",
                "sent before, ms",
                "never sent, ms",
            ],
            (
                [
                    {"across": "another tenant", "within": "the same tenant"}[row["tenants"]],
                    row["trials"],
                    row["auc"],
                    f"{row['auc_low']:.3f} to {row['auc_high']:.3f}",
                    f"{'at most' if across else 'at least'} {row['target']:.2f}",
                    _of_area(row["auc"], row["target"], across),
                    row["sent_ms"],
                    row["fresh_ms"],
                ]
                for row in record.rows
                for across in [row["tenants"] == "across"]
            ),
        )
    )


def soak(record: Record, body: Body) -> None:
    for row in record.rows:
        targets = row["targets"]
        body.say(
            f"{row['clients']} clients for {row['minutes']:.0f} minutes: {row['requests']:,} "
            f"requests, {number(row['requests_per_s'])} a second; {row['left']:,} were left by "
            f"their clients, {row['mistakes']:,} had mistakes in them. Time to an answer: "
            f"{milliseconds(row['p50_ms'])} (median), {milliseconds(row['p99_ms'])} (99th "
            f"percentile). Answers by status: {_counts(row['statuses'])}."
        )
        held = ", ".join(f"{name} {count}" for name, count in row["over_baseline"].items())
        wrong = sum(row["wrong"].values())
        growth = f"{row['mib_per_10000']:.2f} ± {row['mib_per_10000_error']:.2f} MiB"
        body.say(
            table(
                ["", "measured", "to reach", "reached"],
                [
                    [
                        "5xx that are not 503",
                        row["other_5xx"],
                        targets["other_5xx"],
                        _most(row["other_5xx"], targets["other_5xx"]),
                    ],
                    ["answers that may not be, broken connections", wrong, 0, _most(wrong, 0)],
                    [
                        "memory for each 10,000 requests",
                        growth,
                        f"at most {targets['mib_per_10000']:g} MiB",
                        _most(row["mib_per_10000"], targets["mib_per_10000"]),
                    ],
                    [
                        "held more than at the start",
                        held or "nothing",
                        "nothing",
                        _yes(not held),
                    ],
                    ["audit", row["audit"], "clean", _yes(row["audit"] == "clean")],
                    ["health", row["health"], 200, _yes(row["health"] == 200)],
                ],
            )
        )
        points = [(requests / 1e3, mib) for requests, mib in row["memory"] if requests]
        if len(points) > 1:
            body.show(
                "soak",
                plots.trace(points, "thousands of requests", "MiB"),
                "Resident memory of the server's process by requests so far",
            )


def milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{number(float(value))} ms"


def _of_area(auc: float, target: float, across: bool) -> str:
    """A guess that is wrong more often than not tells as much as its opposite."""
    return reached(max(auc, 1 - auc) if across else auc, target, most=across)


def _most(value: float | None, target: float) -> str:
    return "–" if value is None else reached(value, target, most=True)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "**no**"


def _counts(found: Row) -> str:
    return ", ".join(f"{cell(count)} × {status}" for status, count in found.items())
