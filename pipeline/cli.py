"""The command. The one module of the engine that knows the other packages: it puts stages, engine and cluster together.

Start-up is kept cheap: a command imports what it needs when it runs, and none of them imports torch, ray or mlflow for
its answer alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from hyperloom.pipeline import deferred, project, ray_internals

DESCRIPTION = "Weave the labels of many expert models into one small model: Ray works, storage remembers, MLflow shows."


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 wrong recipe or usage, 3 root in use, 4 a step
    failed, 5 no cluster, 130 interrupted, 143 ended by SIGTERM."""
    project.step_back()  # before anything is imported
    deferred.defer()
    given = _parser().parse_args(arguments)
    from hyperloom.pipeline.errors import HyperloomError

    try:
        return given.command(given)
    except HyperloomError as error:
        from hyperloom.pipeline.execution import leave

        print(f"hyperloom: {error}", file=sys.stderr)
        return leave(error.exit_code)
    except KeyboardInterrupt:
        from hyperloom.pipeline.execution import leave

        print(
            "\nhyperloom: interrupted; what was committed is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return leave(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


Adder = Callable[..., argparse.ArgumentParser]
"""Adds a command that takes a recipe: (name, function, help)."""


def _parser() -> argparse.ArgumentParser:
    from hyperloom.stages.data import command as data

    parser = argparse.ArgumentParser(prog="hyperloom", description=DESCRIPTION)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[Any], int], help_: str, to: Any = commands) -> argparse.ArgumentParser:
        sub = to.add_parser(name, help=help_, description=help_)
        sub.add_argument("recipe", help="path of a recipe, such as recipes/demo.yaml")
        sub.add_argument("--root", help="use this root (a folder or an fsspec URL) instead of the recipe's")
        sub.set_defaults(command=function)
        return sub

    _commands_that_run(command)
    _commands_of_the_root(command)
    data.add(command, commands, _load, _steps)
    _add_release(command)
    _add_import(commands)
    _commands_of_the_machine(command)
    return parser


def _commands_that_run(command: Adder) -> None:
    sub = command("run", _run, "run the steps that are not fresh; the same command continues after any interruption")
    sub.add_argument("--step", action="append", metavar="NAME", help="only this step and what it needs (repeatable)")
    _add_wait(sub)
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    command("plan", _plan, "say what would run, and why").add_argument("--json", action="store_true", help="as JSON")
    command("status", _status, "say what the root holds of this recipe")
    sub = command("submit", _submit, "hand the recipe to a Ray cluster as a job and follow it")
    sub.add_argument("--address", help="URL of the job server (http://127.0.0.1:8265)")
    sub.add_argument("--detach", action="store_true", help="do not follow the job's log")


def _commands_of_the_root(command: Adder) -> None:
    sub = command("failed", _failed, "list samples in quarantine and units that failed, with their errors")
    sub.add_argument("--traces", action="store_true", help="with tracebacks")
    sub.add_argument(
        "--replay", action="store_true", help="take the quarantined samples back, so that the next run tries them again"
    )
    sub = command("verify", _verify, "re-read every committed file and compare checksums")
    sub.add_argument(
        "--repair", action="store_true", help="remove damaged files, so that the next run makes them again"
    )
    sub.add_argument("--gc", action="store_true", help="also remove data that no manifest names")


def _add_release(command: Adder) -> None:
    sub = command("release", _release, "list the champions, or go back to the one before")
    sub.add_argument("--rollback", action="store_true", help="make the champion before the present one champion again")
    sub.add_argument("--name", help="of the registered model, where there are several")
    _add_wait(sub)


def _add_import(commands: Any) -> None:
    sub = commands.add_parser("import", help="read a directory of Video Representations Extractor or Dronescapes")
    sub.add_argument("directory", help="with a folder for each representation")
    sub.add_argument("--recipe", help="the recipe to write and run (DIRECTORY's name.yaml)")
    sub.add_argument("--root", help="use this root instead of the recipe's ./runs")
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    sub.set_defaults(command=_import)


def _commands_of_the_machine(command: Adder) -> None:
    sub = command("ui", _ui, "start the MLflow server on the recipe's tracking store")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    sub.add_argument("--port", type=int, default=5000)
    sub = command("doctor", _doctor, "look at all that a run needs, and say what is missing")
    sub.add_argument("--no-ray", action="store_true", help="do not start or join a cluster")


def _add_wait(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="how long to wait for another driver (60)"
    )


def _load(given: Any) -> tuple[Any, Any]:
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
    from hyperloom.pipeline import recipe
    from hyperloom.pipeline.storage import Storage

    loaded = recipe.load(given.recipe)
    root = given.root or loaded.recipe.root
    if "://" not in root and not os.path.isabs(root) and ray_internals.in_job():
        raise loaded.error(
            ("root",),
            f"inside a Ray job the root {root!r} would lie in the job's temporary folder and be lost. "
            "Next: add --root with a path or URL that all nodes see",
        )
    given.root = root
    return loaded, Storage(root)


def _cluster(loaded: Any) -> Any:
    from hyperloom.clusters.spec import Cluster
    from hyperloom.pipeline.recipe import validate_section

    return validate_section(loaded, "cluster", Cluster)


def _connect(loaded: Any) -> Callable[[], None]:
    spec = _cluster(loaded)
    started: list[bool] = []

    def connect() -> None:
        from hyperloom.clusters.connect import connect as join

        if not started:
            started.append(True)
            print(
                f"Ray: {'starting a private cluster' if spec.where == 'local' else 'joining ' + spec.where}", flush=True
            )
        join(spec)

    return connect


def _run(given: Any) -> int:
    loaded, _ = _load(given)
    from hyperloom.pipeline.progress import Progress
    from hyperloom.pipeline.runner import run

    progress = Progress()
    outcome = run(loaded, _connect(loaded), given.root, given.step, given.wait, progress, not given.no_mlflow)
    if outcome.quarantined:
        progress.say(
            f"{outcome.quarantined} sample(s) are in quarantine: hyperloom failed {given.recipe}{_root(given)}"
        )
    if outcome.ok:
        if outcome.run:
            progress.say(f"done. Look at it: hyperloom ui {given.recipe}{_root(given)}")
        return 0
    for name, problem in outcome.problems.items():
        progress.say(f"{name}: {problem}")
    missing = ", ".join(f"{name} ({what})" for name, what in outcome.missing.items())
    progress.say(f"missing: {missing}. Continue with: hyperloom run {given.recipe}{_root(given)}")
    return outcome.error.exit_code if outcome.error else 1


def _import(given: Any) -> int:
    from hyperloom.stages.data.command import import_

    given.step, given.wait = None, 60.0
    return import_(given, _run)


def _root(given: Any) -> str:
    return f" --root {given.root}" if given.root in sys.argv else ""


def _steps(loaded: Any, storage: Any) -> list[Any]:
    from hyperloom.pipeline.digests import Digests
    from hyperloom.pipeline.plan import plan

    return plan(loaded, storage, Digests(storage))


def _plan(given: Any) -> int:
    loaded, storage = _load(given)
    from dataclasses import asdict

    from hyperloom.pipeline import forecast
    from hyperloom.pipeline.progress import table

    steps = _steps(loaded, storage)
    _cluster(loaded)  # checks the section
    forecasts = forecast.forecast(storage, steps, loaded.recipe.modalities)
    if given.json:
        told_of = {n: None if shares is None else [asdict(s) for s in shares] for n, shares in forecasts.items()}
        print(
            json.dumps(
                [
                    {"step": s.name, "state": s.state, "why": s.why, "fingerprint": s.fingerprint, "payload": s.payload}
                    | {"units": told_of[s.name]}
                    for s in steps
                ],
                indent=1,
            )
        )
        return 0
    unfinished = {s.name for s in steps if s.state != "fresh"}
    shown = [
        {
            "step": s.name,
            "stage": s.stage.stage,
            "state": s.state,
            "fingerprint": s.fingerprint[:12],
            "why": "; ".join(s.why)
            or (f"{len(s.manifest.records)} units" if s.manifest and s.manifest.records else ""),
        }
        for s in steps
    ]
    print(table(shown))
    if units := forecast.rows({n: shares for n, shares in forecasts.items() if n in unfinished}):
        print(f"\n{table(units)}\n")
    print(f"{len(unfinished)} of {len(steps)} steps would run" if unfinished else f"all {len(steps)} steps are fresh")
    return 0


def _status(given: Any) -> int:
    loaded, storage = _load(given)
    from hyperloom.pipeline import status
    from hyperloom.pipeline.progress import table

    print(table(status.rows(storage, _steps(loaded, storage))))
    for note in status.notes(storage):
        print(note)
    return 0


def _release(given: Any) -> int:
    loaded, storage = _load(given)
    from hyperloom.pipeline.progress import Progress
    from hyperloom.pipeline.runner import catch_up
    from hyperloom.stages.release.command import release

    named = [s.name for s in loaded.recipe.steps.values() if s.stage == "release"]
    return release(given, storage, named, lambda: catch_up(storage, loaded, Progress(), True))


def _submit(given: Any) -> int:
    loaded, storage = _load(given)
    from hyperloom.clusters.submit import submit

    return submit(_cluster(loaded), loaded, str(storage), given.address, follow=not given.detach)


def _failed(given: Any) -> int:
    loaded, storage = _load(given)
    from hyperloom.pipeline import quarantine

    steps = _steps(loaded, storage)
    if given.replay:
        reopened = quarantine.replay(storage, steps)
        print(
            f"taken back: {', '.join(reopened)}. Next: hyperloom run {given.recipe}{_root(given)}"
            if reopened
            else "nothing is in quarantine"
        )
        return 0
    count = 0
    for trouble in quarantine.troubles(storage, steps):
        count += 1
        what = f"quarantined {trouble.key}" if trouble.key else "failed"
        print(f"{trouble.step or '-'}  {trouble.unit}  {what}: {trouble.error}")
        if given.traces and trouble.trace:
            print("    " + trouble.trace.replace("\n", "\n    "))
    print(f"{count} in all" if count else "nothing failed and nothing is in quarantine")
    return 1 if count else 0


def _verify(given: Any) -> int:
    _, storage = _load(given)
    from hyperloom.pipeline import verify

    manifests = list(verify.manifests(storage))
    problems = verify.verify(storage, manifests)
    for problem in problems:
        print(problem)
    if given.gc:
        from hyperloom.pipeline.lease import Lease

        with Lease(storage, "verify --gc", wait=0):  # what a driver has in flight is in no manifest yet
            rubbish = verify.garbage(storage)
            for path in rubbish:
                storage.delete(path)
        print(f"removed {len(rubbish)} file(s) that no manifest names")
    if problems and given.repair:
        verify.discard(storage, problems)
        print(f"removed {len(problems)} damaged file(s). Next: hyperloom run {given.recipe}{_root(given)}")
    elif problems:
        print(f"{len(problems)} problem(s). Next: hyperloom verify --repair, then hyperloom run")
    else:
        count = sum(1 for m in manifests for _ in m.all_files())
        print(f"{len(manifests)} manifest(s), {count} file(s): all as committed")
    return 1 if problems else 0


def _ui(given: Any) -> int:
    loaded, storage = _load(given)
    from hyperloom.pipeline.tracking.store import serve, store_uri

    print(f"MLflow at http://{given.host}:{given.port} (Ctrl-C ends it)", flush=True)
    serve(store_uri(storage, loaded.recipe.tracking), given.host, given.port)
    return 0


def _doctor(given: Any) -> int:
    loaded, _ = _load(given)
    from hyperloom.pipeline.doctor import examine

    worst = 0
    for verdict, what, text in examine(given.root, loaded.recipe.tracking, None if given.no_ray else _connect(loaded)):
        print(f"{verdict:>4}  {what:<14} {text}")
        worst |= verdict == "bad"
    return int(worst)
