"""The command `focal-loss`. Each command imports what it needs when it runs."""

from __future__ import annotations

import typer

from service import __version__
from service.cli.console import add_row, call_service, last_errors, number, output, show_json, show_text, table
from service.cli.doctor.command import doctor
from service.cli.options import DEFAULT_URL, AsJson, Url
from service.cli.runs.agreement import agreement
from service.cli.runs.annotators import annotate, consensus
from service.cli.runs.compare import compare
from service.cli.runs.corrected import corrected
from service.cli.runs.diagnose import diagnose
from service.cli.runs.export import export
from service.cli.runs.manage import app as runs_app
from service.cli.runs.mine import mine
from service.cli.runs.next_rows import next_rows
from service.cli.runs.push import push
from service.cli.runs.review import review
from service.cli.runs.verify import verify
from service.cli.score.command import score
from service.cli.serve import PASS_ARGUMENTS, serve

app = typer.Typer(name="focal-loss", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def focal_loss() -> None:
    """Focal loss as a service: find the examples with the largest losses, and the reasons."""


def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def configs(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the configurations of a service."""
    held = call_service(url, lambda client: client.configs())
    if as_json:
        show_json([{**vars(entry), "config": entry.config.model_dump(mode="json")} for entry in held])
        return
    shown = table("config_id", "mode", ">gamma", "alpha", "reduction", ">uses", "last used")
    for entry in held:
        config = entry.config
        alpha = "none" if entry.alpha is None else ", ".join(f"{weight:g}" for weight in entry.alpha[:8])
        used = entry.last_used_at.isoformat(timespec="seconds")
        add_row(shown, entry.config_id, config.mode, number(config.gamma), alpha, config.reduction, entry.uses, used)
    output.print(shown)


def info(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Print version, device and readiness of a service."""
    service = call_service(url, lambda client: client.info())
    if as_json:
        show_json({**vars(service), "client_version": __version__})
        return
    ready = "yes" if service.ready else f"no: {service.reason}"
    show_text(
        f"url      {service.url}\nservice  {service.version}\nclient   {__version__}\n"
        f"device   {service.device or 'unknown'}\nready    {ready}"
    )


app.add_typer(runs_app)
app.command(context_settings=PASS_ARGUMENTS, add_help_option=False)(serve)
for command in (
    version,
    score,
    configs,
    info,
    doctor,
    push,
    diagnose,
    mine,
    export,
    corrected,
    compare,
    review,
    consensus,
    agreement,
    verify,
):
    app.command()(command)
app.command("annotations")(annotate)
app.command("next")(next_rows)


def main() -> None:
    """Run `focal-loss`, or `python -m service`."""
    with last_errors():
        app()
