"""`ramet run`: one run, told while it goes on, or a batch with a line for each item."""

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ramet.runtime.cli.engines import open_engine
from ramet.runtime.cli.exits import WRONG, failure
from ramet.runtime.cli.jobs import Job
from ramet.runtime.cli.live import Live
from ramet.runtime.cli.python_files import placed
from ramet.runtime.cli.results import show, show_stats
from ramet.runtime.cli.terminal import as_json, err, out, print_json
from ramet.runtime.engine import Engine, bound_arguments
from ramet.runtime.report_json import report
from ramet.runtime.result import Finished
from ramet.runtime.run import Run


def run_one(job: Job, *, stream: bool, json: bool, stats: bool) -> None:
    """Run once, and show it; with `json`, as one object. Raises what ended the run."""
    began = time.perf_counter()
    with closing(open_engine(job)) as engine:
        loaded = time.perf_counter()
        console = out()
        live = Live(console if stream and not json else None)
        run = engine.start(
            job.program, bound_arguments(job.program, (), job.arguments), on_event=live.take
        )
        error = _drive(engine, run)
        ended = time.perf_counter()
        finished = run.partial()
        if json:
            told: dict[str, Any] = {"model": job.model, **report(finished)}
            told["seconds"] = {"load": loaded - began, "run": ended - loaded}
            if stats:
                told["stats"] = _numbers(engine)
            if error is not None:
                del told["value"]
                told |= {"error": failure(_placed(error, job)), "unfinished": live.unfinished()}
            print_json(told)
        elif error is None:
            live.close()
            show(console, finished)
            if stats:
                show_stats(console, finished, engine.stats(), engine.config.block_size)
        else:
            live.close(console)
        if error is not None:
            raise _placed(error, job) from None


def run_batch(job: Job, *, concurrency: int, stats: bool) -> None:
    """Run every item; one line of JSON for each, in their order, as soon as it can be."""
    assert job.items is not None, "a batch has items"
    lines: dict[int, dict[str, Any]] = {}
    printed = failed = 0
    console = err()
    over_bar = console.is_terminal and sys.stdout.isatty()  # one terminal has both
    with (
        closing(open_engine(job)) as engine,
        Progress(
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
        ) as bar,
    ):
        task = bar.add_task(job.program.name, total=len(job.items))

        def over(at: int, outcome: Finished | Exception) -> None:
            nonlocal printed, failed
            failed += isinstance(outcome, Exception)
            lines[at] = {"item": at, **_line(outcome, job)}
            while printed in lines:
                line = lines.pop(printed)
                if over_bar:
                    bar.console.print(as_json(line), soft_wrap=True)
                else:
                    print_json(line)
                printed += 1
            bar.advance(task)

        engine.run_batch(job.program, job.items, concurrency=concurrency, on_outcome=over)
    if stats:
        print_json({"stats": _numbers(engine)})
    if failed:
        err().print(f"{failed} of {len(job.items)} items failed", style="red")
        raise typer.Exit(WRONG)


def _drive(engine: Engine, run: Run) -> BaseException | None:
    """Run to the end; what ended it before, if anything did. Every block is back then."""
    try:
        with engine.turn:
            while not run.done:
                engine.round([run])
    except KeyboardInterrupt as error:
        return error
    return run.error


def _placed(error: BaseException, job: Job) -> BaseException:
    return placed(error, job.file) if isinstance(error, Exception) else error


def _line(outcome: Finished | Exception, job: Job) -> Mapping[str, Any]:
    if isinstance(outcome, Exception):
        return {"error": failure(placed(outcome, job.file))}
    return report(outcome)


def _numbers(engine: Engine) -> dict[str, Any]:
    return asdict(engine.stats())
