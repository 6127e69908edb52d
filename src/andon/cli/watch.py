"""``andon watch``: inspect the photographs that arrive in a folder, for as long as the line runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

import click

from andon.cli.common import COLOURS, language_here, shown
from andon.cli.records import to_records
from andon.cli.watch_plc import camera_source, plc_sinks, require_folder_alone, require_no_folder
from andon.errors import BusyError, SettingsError
from andon.files import check_folder, single_writer
from andon.path_pattern import PathPattern
from andon.runtime.monitor import following
from andon.runtime.predictor import Predictor, chosen_language
from andon.runtime.words import LANGUAGES

if TYPE_CHECKING:
    from andon.runtime.line import Broker, Result, Sink, Store
    from andon.runtime.line.daily_log import Kind
    from andon.runtime.line.inspecting import Overlays
    from andon.runtime.line.line import WhenFull


@click.command("watch", short_help="Inspect every photograph that arrives in a folder or camera.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--artifact", type=click.Path(path_type=Path), required=True, help="The detector (.andon).")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for results, log, status and store; on a local disk.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="The line's memory, a file on a local disk. Default: line.sqlite in --out.",
)
@click.option("--only-new", is_flag=True, help="Leave out what lies in DIR at the very first start.")
@click.option("--recursive", is_flag=True, help="Watch the folders below DIR, too.")
@click.option(
    "--poll", type=float, default=0.1, show_default=True, help="Seconds between two looks at the folder."
)
@click.option(
    "--settle",
    type=float,
    default=0.2,
    show_default=True,
    help="Seconds for which a file must not change; 0 where files are renamed into place.",
)
@click.option(
    "--patience",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds for which a file that cannot be read must not change, until it is an error.",
)
@click.option(
    "--name-pattern",
    metavar="PATTERN",
    help="Reads the part's number from the path, e.g. '{lot}/{part}_*.png'. Default: the file's name.",
)
@click.option(
    "--read-code",
    is_flag=True,
    help="Take the part's number from the QR, Data Matrix, Aztec or bar code on the part.",
)
@click.option(
    "--log",
    type=click.Choice(("csv", "jsonl", "none")),
    default="csv",
    show_default=True,
    help="A table a day.",
)
@click.option(
    "--overlay",
    type=click.Choice(("never", "not-passed", "always")),
    default="never",
    show_default=True,
    help="Which photographs are kept with their heatmap (PNG).",
)
@click.option(
    "--move-to",
    multiple=True,
    metavar="DECISION=FOLDER",
    help="Move inspected files: pass, review, fail or error. Several times.",
)
@click.option(
    "--monitor",
    type=click.Path(path_type=Path),
    metavar="STATE.json",
    help="Watch for drift, as andon inspect does. See: andon monitor",
)
@to_records
@click.option("--mqtt", metavar="URL", help="Publish, e.g. mqtt://broker:1883/hall2/line3; mqtts:// for TLS.")
@click.option(
    "--mqtt-login",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with user:password in its one line. Default: the environment's ANDON_MQTT_LOGIN.",
)
@click.option(
    "--mqtt-ca",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificates (PEM) to trust for mqtts://. Default: the system's.",
)
@click.option(
    "--camera",
    metavar="NAME",
    help="Instead of DIR, a GenICam camera: its serial number, name or model, or 0 for the first (andon[camera]).",
)
@click.option(
    "--camera-producer",
    type=click.Path(path_type=Path),
    metavar="FILE.cti",
    help="The GenTL producer of the camera's maker.",
)
@click.option(
    "--camera-set", multiple=True, metavar="FEATURE=VALUE", help="Set a feature of the camera. Several times."
)
@click.option(
    "--trigger",
    type=click.Choice(("camera", "plc")),
    default="camera",
    show_default=True,
    help="What makes a picture: the camera sends them, or the PLC asks by --opcua or --modbus.",
)
@click.option(
    "--opcua",
    metavar="ENDPOINT",
    help="Serve results to a PLC by OPC UA, e.g. opc.tcp://0.0.0.0:4840/andon (andon[opcua]).",
)
@click.option(
    "--modbus",
    metavar="HOST:PORT",
    help="Serve results to a PLC as Modbus TCP registers, e.g. 0.0.0.0:502 (andon[modbus]).",
)
@click.option(
    "--outbox",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Results that a receiver may be behind.",
)
@click.option(
    "--when-full",
    type=click.Choice(("stop", "drop")),
    default="stop",
    show_default=True,
    help="With a full outbox: stop taking parts, or drop the receiver's oldest results.",
)
@click.option("--language", type=click.Choice(LANGUAGES), help="Of sentences. Default: as andon inspect.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; default: the machine's cores.")
@click.option("--once", is_flag=True, help="End when all that lies there is inspected and delivered.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the results.")
def command(folder: Path | None, artifact: Path, out: Path, store: Path | None, only_new: bool, recursive: bool, poll: float,
            settle: float, patience: float, name_pattern: str | None, read_code: bool, log: str, overlay: str,
            move_to: tuple[str, ...], monitor: Path | None, records: str | None, pictures: Path | None, mqtt: str | None, mqtt_login: Path | None,
            mqtt_ca: Path | None, camera: str | None, camera_producer: Path | None, camera_set: tuple[str, ...],
            trigger: str, opcua: str | None, modbus: str | None, outbox: int, when_full: str, language: str | None, threads: int | None, once: bool,
            quiet: bool) -> int:  # fmt: skip
    """Inspect every photograph that arrives in DIR, or from a camera, once, and report it.

    Nothing is lost and nothing comes twice over restarts, kills, full disks and absent brokers. SIGTERM and Ctrl-C end
    it after the part in hand. How it is: OUT/status.json, written anew every few seconds.

    \b
    Examples:
      andon watch /camera --artifact clip.andon -o /var/andon/line3
      andon watch /camera --artifact clip.andon -o results --move-to pass=/done --move-to fail=/rejects
      andon watch /camera --artifact clip.andon -o results --name-pattern "{lot}_{part}.png" --overlay not-passed
      andon watch /camera --artifact clip.andon -o results --mqtt mqtt://broker/hall2/line3 --monitor line3.json
      andon watch /camera --artifact clip.andon -o results --records station.db --overlay not-passed
      andon watch --camera 0 --camera-producer maker.cti --trigger plc --opcua opc.tcp://0.0.0.0:4840/andon
        --artifact clip.andon -o results
    """
    from andon.runtime.line import (
        FilesSink,
        FolderSource,
        Inspector,
        Line,
        LineSettings,
        RecordsSink,
        Source,
        Timing,
        require_apart,
    )
    from andon.runtime.line.inspecting import file_sha256

    if pictures is not None and records is None:
        raise click.UsageError("--pictures is for --records; give that, too")
    moves = _moves(move_to)
    pattern = PathPattern.parse(name_pattern, "--name-pattern") if name_pattern else None
    broker = _broker(mqtt, mqtt_login, mqtt_ca)
    plcs = plc_sinks(opcua, modbus)
    source: Source
    if folder is None:
        require_no_folder(move_to, name_pattern, once or only_new or recursive)
        source = camera_source(camera, camera_producer, camera_set, trigger, plcs, _say)
        watched = f"the camera {camera}"
    else:
        require_folder_alone(camera, camera_producer, camera_set, trigger)
        source = FolderSource(folder, recursive=recursive, only_new=only_new, timing=Timing(poll, settle, patience),
                              moves=moves, say=_say)  # fmt: skip
        watched = str(source.folder)
        require_apart(folder, [out, *moves.values()], recursive=recursive)
    check_folder(out)
    predictor = Predictor.open(artifact, threads=threads)
    predictor = predictor.speaking(language or chosen_language(predictor.manifest) or language_here())
    with ExitStack() as stack:
        memory = stack.enter_context(
            _opened(store or out / "line.sqlite", out, source.name if folder is None else watched)
        )
        follower = None if monitor is None else stack.enter_context(following(monitor, predictor))
        inspector = Inspector(predictor, pattern=pattern, codes=read_code, overlays=cast("Overlays", overlay),
                              follower=follower)  # fmt: skip
        sinks: list[Sink] = [FilesSink(out, None if log == "none" else cast("Kind", log))]
        if records is not None:
            sinks.append(RecordsSink(records, out, who=out.absolute().name, pictures=pictures, moves=moves))
        if broker is not None:
            from andon.runtime.line import MqttSink

            sinks.append(MqttSink(broker, memory.line))
        sinks += plcs
        line = Line(
            source, inspector, sinks, memory, out,
            artifact=(artifact.name, file_sha256(artifact)),
            settings=LineSettings(outbox=outbox, when_full=cast("WhenFull", when_full), once=once),
            say=_say, show=_show if not quiet else lambda result: None,
        )  # fmt: skip
        stop = stack.enter_context(_stopped_gently())
        _say(f"Watching {watched}; results in {out}; {memory.sequence:,} parts inspected before.")
        line.run(stop)
    return 0


@contextmanager
def _opened(path: Path, out: Path, watched: str) -> Iterator[Store]:
    """The store at ``path``, for this process alone and for what is ``watched``."""
    from andon.runtime.line import Store, require_unused

    with ExitStack() as stack:
        try:
            stack.enter_context(single_writer(path))
        except BusyError as error:
            raise BusyError(
                f"another andon watch runs on {path}. Only one may: end it, or give this one another --out (and --store)."
            ) from error
        if not path.exists():
            require_unused(out)
        store = Store(path)
        stack.callback(store.close)
        store.bind(watched)
        yield store


def _moves(assignments: tuple[str, ...]) -> dict[str, Path]:
    from andon.runtime.line import DECISIONS

    moves: dict[str, Path] = {}
    for assignment in assignments:
        decision, _, folder = assignment.partition("=")
        if decision not in DECISIONS or not folder or decision in moves:
            raise SettingsError(
                f"--move-to takes DECISION=FOLDER, once for each of {', '.join(DECISIONS)}; found {assignment!r}"
            )
        moves[decision] = Path(folder)
        check_folder(Path(folder))
    return moves


def _broker(url: str | None, login: Path | None, authority: Path | None) -> Broker | None:
    import os

    from andon.runtime.line import Broker

    if url is None:
        if login or authority:
            raise click.UsageError("--mqtt-login and --mqtt-ca are for --mqtt; give that, too")
        return None
    try:
        text = login.read_text("utf-8") if login else os.environ.get("ANDON_MQTT_LOGIN", "")
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read --mqtt-login {login}: {error}") from error
    from dataclasses import replace

    broker = replace(Broker.parse(url), authority=authority)
    return broker.with_login(text) if text else broker


@contextmanager
def _stopped_gently() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; the second of them ends the program as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each in numbers:
            signal.signal(each, before[each])

    for number in numbers:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _say(text: str) -> None:
    with suppress(OSError):  # what is said must not end the line: the log may lie on the full disk
        click.echo(shown(text), err=True)


def _show(result: Result) -> None:
    content = result.content
    decision = content["decision"]
    colour = COLOURS.get(decision, "magenta")
    score = "  -  " if content["score"] is None else f"{content['score']:5.3f}"
    text = content["sentence"] or content["error"]
    line = f"{result.sequence:>6} {click.style(f'{decision.upper():<6}', fg=colour, bold=True)} {score}  {shown(content['part'])}  {shown(text)}"
    with suppress(OSError):
        click.echo(line)
        sys.stdout.flush()
