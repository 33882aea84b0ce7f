"""The commands and their options. What a command does is imported when it is called, so that
`--help` and completion start fast, and never load the engine.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from ramet.runtime.cli import completion
from ramet.runtime.cli.exits import CODES, told
from ramet.runtime.cli.files import STDIN
from ramet.runtime.threads import wait_shortly

MODEL = "smollm2-135m"


class Commands(TyperGroup):
    """All commands, with one boundary for what goes wrong in them."""

    def invoke(self, ctx: Any) -> Any:
        wait_shortly()
        with told():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Write language-model programs, look at them, run them.",
    epilog=CODES,
)

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Programs in text (.ramet), a Python module (.py), a request graph (.json), or - "
        "for text from stdin.",
        autocompletion=completion.files,
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="As for run.", autocompletion=completion.files),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--program",
        metavar="NAME",
        help="Which program of the file; its last one, if not given.",
        autocompletion=completion.programs,
    ),
]
Args = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        "-a",
        metavar="NAME=VALUE",
        help="An argument: JSON where it is of the parameter's type, else a plain string. "
        "For each argument once.",
        autocompletion=completion.parameters,
    ),
]
LimitsGiven = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Change a limit: source_bytes, statements, nesting, branches, live_branches, steps, "
        "made, tokens or seconds.",
        autocompletion=completion.limits,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ramet {version('ramet')}")
        raise typer.Exit


@app.callback()
def ramet(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog=CODES)
def run(
    file: File,
    name: Name = None,
    arg: Args = None,
    args_file: Annotated[
        str | None,
        typer.Option(
            metavar="ITEMS",
            help="Run a batch: one JSON object a line (.jsonl, or - for stdin), or a list of them "
            "(.json). Prints one line of JSON for each, in their order.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="An embedded model, a directory, a .gguf file, or a hub id.",
            autocompletion=completion.models,
        ),
    ] = MODEL,
    device: Annotated[str, typer.Option(help="Where it runs: cpu, cuda, or cuda:N.")] = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "int8"] | None,
        typer.Option(
            help="What the model computes with; int8 is fastest on CPU, and rounds most.",
            show_default="float32; bfloat16 on CUDA",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="From which every draw follows by its place.")
    ] = None,
    stream: Annotated[
        bool, typer.Option(help="Show the text while it is written; not with --json or a batch.")
    ] = True,
    json: Json = False,
    limit: LimitsGiven = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Most items of a batch under way at once.")
    ] = 64,
    stats: Annotated[bool, typer.Option("--stats", help="What sharing saved, too.")] = False,
) -> None:
    """Run a program, or a batch of its runs."""
    from ramet.runtime.cli.jobs import job_for

    job = job_for(
        file,
        name=name,
        given=arg or [],
        args_file=args_file,
        model=model,
        device=device,
        dtype=dtype,
        seed=seed,
        limits=limit or [],
    )
    from ramet.runtime.cli.running import run_batch, run_one

    if job.items is None:
        run_one(job, stream=stream, json=json, stats=stats)
    else:
        run_batch(job, concurrency=concurrency, stats=stats)


@app.command(epilog=CODES)
def check(files: Files, json: Json = False) -> None:
    """Tell all mistakes of the files, each with its place."""
    from ramet.runtime.cli.check import check

    check(files, as_json=json)


@app.command(epilog=CODES)
def plan(
    file: File,
    name: Name = None,
    arg: Args = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Count tokens with the tokenizer of this model; its weights are not loaded.",
            autocompletion=completion.models,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say what a run can take: tokens, branches, blocks; and what is known ahead."""
    from ramet.runtime.cli.plan import plan

    plan(file, name, arg or [], model, as_json=json)


@app.command(epilog=CODES)
def graph(
    file: File,
    name: Name = None,
    arg: Args = None,
    svg: Annotated[
        str | None, typer.Option(metavar="OUT", help="A picture into this file; - is stdout.")
    ] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid diagram.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON, which run takes again.")] = False,
    text: Annotated[bool, typer.Option("--text", help="As text: the default.")] = False,
) -> None:
    """Show the request graph of a program, as far as it is known without running it."""
    from ramet.runtime.cli.graph import Form, graph

    forms = [
        form
        for form, wanted in (
            (Form.SVG, svg is not None),
            (Form.MERMAID, mermaid),
            (Form.JSON, json),
            (Form.TEXT, text),
        )
        if wanted
    ]
    if len(forms) > 1:
        raise typer.BadParameter("give one of --svg, --mermaid, --json and --text")
    graph(file, name, arg or [], forms[0] if forms else Form.TEXT, svg or STDIN)


@app.command(epilog=CODES)
def fmt(
    files: Files,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where something would change.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what would change.")
    ] = False,
) -> None:
    """Write programs in text in their canonical form, in place; from stdin to stdout with -."""
    from ramet.runtime.cli.fmt import fmt

    fmt(files, check=check, diff=diff)


@app.command(epilog=CODES)
def serve(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="An embedded model, a directory, a .gguf file, or a hub id.",
            autocompletion=completion.models,
        ),
    ] = MODEL,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model; as --model, if not given.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; more than this machine needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 8000,
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Who may ask: a line TENANT KEY for each key. Tenants share no blocks.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where it runs: cpu, cuda, or cuda:N.")] = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "int8"] | None,
        typer.Option(help="What the model computes with; the device's own default if not given."),
    ] = None,
    kv_dtype: Annotated[
        Literal["bfloat16", "float16", "float8"] | None,
        typer.Option(help="What keys and values are kept in; as --dtype, if not given."),
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option(min=1, help="Blocks of 16 tokens in the cache; by free memory if not given."),
    ] = None,
    public: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A text whose blocks tenants share where contexts begin with it. Repeatable.",
        ),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where stored programs outlive the server; made if it is not there. Else they are "
            "in memory.",
        ),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that running programs get to end on SIGTERM.")
    ] = 30.0,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=VALUE",
            help="Change a limit: one of a run's, as for run, or of the server's: body_bytes, "
            "prompts, n, beams, running, queue, tenant …",
        ),
    ] = None,
) -> None:
    """Serve programs over HTTP. Keys can also be in RAMET_KEYS, with commas for lines."""
    from ramet.runtime.cli.serving import run_server

    run_server(
        model=model,
        name=name,
        device=device,
        dtype=dtype,
        kv_dtype=kv_dtype,
        blocks=blocks,
        host=host,
        port=port,
        keys=keys,
        public=public or [],
        library=library,
        drain=drain,
        limits=limit or [],
    )


@app.command(epilog=CODES)
def models(json: Json = False) -> None:
    """List the models that a package brings."""
    from ramet.runtime.cli.models import models

    models(as_json=json)


def main() -> None:
    """The entry point."""
    app(prog_name="ramet")
