"""``andon federate``: plants fit one detector together, and none shows its images to anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from andon.cli.common import Size, assigned, check_outputs
from andon.cli.federate_compare import command as compare
from andon.cli.federate_partition import command as partition

if TYPE_CHECKING:
    from andon.federated import Plan

PORT = 8200


@click.group("federate")
def command() -> None:
    """Fit one detector over several plants; images stay where they are.

    \b
    Example, on one machine:   andon federate simulate plants/oslo plants/bergen -o fitted
    Over a network, in order:  andon federate keys, then server, then site at each plant
    What it would give, and cost:  andon federate partition, then compare
    """


command.add_command(partition)
command.add_command(compare)


def plan_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is fitted, and how."""
    options = [
        click.option("--method", default="patchcore", show_default=True, help="See: andon methods. One method."),
        click.option("--size", type=Size(), default="256x256", show_default=True,
                     help="Input size, rows x columns, the same at every site."),
        click.option("--resize", type=click.Choice(["stretch", "letterbox"]), default="stretch", show_default=True,
                     help="How a photograph is brought to that size."),
        click.option("--rounds", default=10, show_default=True,
                     help="Of each training phase; methods without training take one round."),
        click.option("--proximal", default=0.0, show_default=True,
                     help="FedProx's mu: how much the sites are held together while they train; 0 is FedAvg."),
        click.option("--site-rows", type=int, help="Rows of a memory bank that each site sends at most. Default: its own bank."),
        click.option("--epsilon", type=float,
                     help="Privacy of each image of a site: the smaller, the more noise on what is sent. Default: no noise."),
        click.option("--delta", default=1e-5, show_default=True,
                     help="With --epsilon: the chance that it does not hold; far below 1 over the number of images."),
        click.option("--centres", default=512, show_default=True,
                     help="With --epsilon, of a memory bank: public places that its rows start from."),
        click.option("--lloyd", default=1, show_default=True,
                     help="With --epsilon, of a memory bank: rounds in which these are moved."),
        click.option("--rule", type=click.Choice(["mean", "trimmed-mean", "median", "krum"]), default="mean", show_default=True,
                     help="How sites' answers become one; all but mean stand up to --bad wrong ones."),
        click.option("--bad", default=1, show_default=True, help="With --rule: sites that may be wrong."),
        click.option("--check", type=click.Path(path_type=Path),
                     help="Folder of the server's own good images: sites whose answers do not fit these do not count."),
        click.option("--equally", is_flag=True, help="Sites count alike in training, not by their numbers of images."),
        click.option("--target-rate", default=0.01, show_default=True,
                     help="Share of good parts that may fail, at each site."),
        click.option("--confidence", default=0.95, show_default=True, help="Confidence of that promise."),
        click.option("--min-sites", default=1, show_default=True, help="Answers without which a round is given up."),
        click.option("--timeout", default=600.0, show_default=True,
                     help="Seconds that a round waits. A killed site is noticed after 75."),
        click.option("--seed", default=0, show_default=True, help="Same seed, same images: same detector."),
        click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting of the method."),
        click.option("--resume", is_flag=True, help="Go on at the round where an interrupted server stopped."),
        click.option("-q", "--quiet", is_flag=True, help="No line a round, no summary."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@command.command("simulate")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for a .andon file a site."
)
@click.option("--ray/--no-ray", default=True, show_default=True,
              help="Each site in a process of its own, over Flower's simulation; or one after the other in this process.")  # fmt: skip
@click.option("--cpus", type=int, help="With --ray, sites at work at once. Default: as many as processors.")
@plan_options
def simulate(folders: tuple[Path, ...], output: Path, ray: bool, cpus: int | None, **options: Any) -> None:
    """Fit as if each DIR were a plant: nothing but statistics goes from one to the other.

    \b
    Examples:
      andon federate simulate plants/oslo plants/bergen plants/turku -o fitted
      andon federate simulate plants/* -o fitted --method autoencoder --rounds 20 --proximal 0.01
    """
    from andon.federated import InProcess, run, sites_of_folders

    plan, resume, quiet, check = _plan(options)
    if ray:
        _require_flower()
    output.mkdir(parents=True, exist_ok=True)
    sites = sites_of_folders(folders, output)
    check_outputs(*(site.output for site in sites), detector=True)
    how: dict[str, Any] = {"checkpoint": output / "federation.rounds", "resume": resume}
    if check is not None:
        from andon.federated.sites import good_images

        how["check"] = good_images(check, plan)
    how["on_round"] = (lambda report: None) if quiet else (lambda report: _say_round(asdict(report)))
    if ray:
        from andon.federated.flower_server import simulate as over_flower

        outcome = over_flower(sites, plan, cpus=cpus, **how)
    else:
        outcome = run(InProcess(sites), plan, **how)
    from andon.federated.telling import described, write_outcome

    write_outcome(output / "federation.json", described(outcome))
    if not quiet:
        _say_thresholds(described(outcome))
        click.echo(f"Next:  andon inspect {output}/{sites[0].name}.andon PHOTOS")


@command.command("keys")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--site",
    "sites",
    multiple=True,
    required=True,
    help="Name of a site that may join; may be given many times.",
)
@click.option("--host", "hosts", multiple=True, default=("127.0.0.1", "localhost"), show_default=True,
              help="Name or address by which sites reach the server; may be given many times.")  # fmt: skip
def keys(folder: Path, sites: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    """Make the certificates and keys of a federation: a folder for the server, and one to hand to each site.

    \b
    Example:
      andon federate keys secrets --site oslo --site bergen --host andon.example.com
    """
    from andon.federated.keys import make_keys

    for made in make_keys(folder, sites, hosts):
        click.echo(f"{made}/  {', '.join(sorted(path.name for path in made.iterdir()))}")
    click.echo("Hand each site its own folder, by a way that you trust; nobody else is to have it.")


@command.command("server")
@click.option(
    "--keys",
    "keys_folder",
    required=True,
    type=click.Path(path_type=Path),
    help="The server's folder of keys.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for reports, logs, and what --resume needs.",
)
@click.option(
    "--sites", type=int, help="Sites to wait for before the first question. Default: all that were invited."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0: all of this machine's.",
)
@click.option("--port", default=PORT, show_default=True, help="Port to listen on.")
@plan_options
def server(keys_folder: Path, output: Path, sites: int | None, host: str, port: int, **options: Any) -> None:
    """Wait for the sites, fit with them, and end; only sites with a key that was made for them may join.

    \b
    Example:
      andon federate server --keys secrets/server -o federation --host 0.0.0.0 --min-sites 2
    """
    plan, resume, quiet, check = _plan(options)
    _require_flower()
    from andon.federated.deployment import invited, serve
    from andon.federated.telling import outcome_path, write_job
    from andon.files import single_writer

    job = output / "federation.json"
    check_outputs(job)
    with single_writer(job):
        write_job(job, plan, sites or len(invited(keys_folder)), resume=resume, good=check)
        found = serve(keys_folder, output, host, port, job, outcome_path(job),
                      say=(lambda line: None) if quiet else click.echo)  # fmt: skip
    if "error" in found:
        raise click.ClickException(found["error"])
    if not quiet:
        for report in found["reports"]:
            _say_round(report)
        _say_thresholds(found)


@command.command("site")
@click.argument("images", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The .andon file that this site ends with.",
)
@click.option(
    "--keys",
    "keys_folder",
    required=True,
    type=click.Path(path_type=Path),
    help="This site's folder of keys.",
)
@click.option(
    "--server",
    default=f"127.0.0.1:{PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the server listens.",
)
@click.option(
    "--work", type=click.Path(path_type=Path), help="Folder for Flower's log. Default: beside the output."
)
@click.option(
    "--port", default=0, help="Port of this machine for Flower's own processes. Default: a free one."
)
@click.option(
    "--patience",
    default=60.0,
    show_default=True,
    help="Minutes to go on trying while the server is not there, or does not accept this site.",
)
@click.option(
    "--epsilon",
    type=float,
    help="Tell at most so much about any image, over all federations; refuse the rest. Default: no limit.",
)
@click.option(
    "--delta", default=1e-5, show_default=True, help="With --epsilon: the chance that it does not hold."
)
def site(images: Path, output: Path, keys_folder: Path, server: str, work: Path | None, port: int,
         patience: float, epsilon: float | None, delta: float) -> None:  # fmt: skip
    """Take part with the good images in DIR, which stay here, and end when this site's .andon file is written.

    \b
    Example:
      andon federate site photos/good -o oslo.andon --keys secrets/oslo --server andon.example.com:8200
    """
    _require_flower()
    from andon.federated.deployment import join
    from andon.federated.sites import Site
    from andon.federated.telling import write_settings

    check_outputs(output, detector=True)
    name = keys_folder.resolve().name
    Site.of_folder(name, images)  # refuses now what cannot be read
    work = work or output.parent / f"{output.name}.flower"
    work.mkdir(parents=True, exist_ok=True)
    settings = work / "site.json"
    write_settings(settings, name, images, output, None if epsilon is None else (epsilon, delta))
    click.echo(f"site {name!r} joins {server}; its images stay here")
    join(keys_folder, work, server, settings, port=port, until=output, patience=60 * patience,
         say=lambda line: click.echo(line, err=True))  # fmt: skip
    click.echo(f"Next:  andon inspect {output} PHOTOS")


def _plan(options: dict[str, Any]) -> tuple[Plan, bool, bool, Path | None]:
    """The plan that the options ask for, and --resume, --quiet and --check."""
    from andon.federated import Plan, Privacy
    from andon.federated.robust import rule_of
    from andon.federated.rounds import default_aggregate
    from andon.federated.sites import Site, build_detector

    resume, quiet, check = options.pop("resume"), options.pop("quiet"), options.pop("check")
    settings, equally = assigned(options.pop("assignments")), options.pop("equally")
    promise = {name: options.pop(name) for name in ("epsilon", "delta", "centres", "lloyd")}
    privacy = Privacy(**promise) if promise["epsilon"] is not None else None
    plan = Plan(settings=settings, weigh_equally=equally, privacy=privacy, **options)
    detector = build_detector(plan)  # refuses now what cannot be shared, and what cannot be compared
    rule_of(detector, plan, default_aggregate(detector))
    if check is not None:
        Site.of_folder("server", check)  # refuses now what cannot be read
    return plan, resume, quiet, check


def _require_flower() -> None:
    from andon.federated.flower_messages import require_flower

    require_flower("a federation over several processes")


def _say_thresholds(found: dict[str, Any]) -> None:
    for told in found["calibrations"].values():
        click.echo(f"{told['site']}: threshold {told['threshold']:.6g}; {told['statement']}")


def _say_round(report: dict[str, Any]) -> None:
    what = report["phase"] or report["kind"]
    moved = (report["bytes_up"] + report["bytes_down"]) / 1e6
    answered = f"{len(report['answered'])} sites, {moved:.1f} MB, {report['seconds']:.1f} s"
    click.echo(f"round {report['number']} ({what}): {answered}")
    for refused in report["refused"]:
        click.secho(f"  not counted: {refused['site']}: {refused['reason']}", fg="yellow", err=True)
