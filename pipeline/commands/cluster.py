"""`hyperloom cluster`: the files by which a cluster is started, waiting for its nodes, and leaving it in peace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commands import arguments, opening

if TYPE_CHECKING:
    from hyperloom.pipeline.output.replies import LeaveReply, RenderReply, WaitReply

PROFILES = ("aws", "gcp", "on-premise", "rayjob", "raycluster", "cronjob", "slurm", "container")
"""`hyperloom.clusters.profiles.PROFILES`, known without importing it."""


def add(commands: Any) -> None:
    help_ = "make the files that start a cluster; wait for its nodes; leave it"
    parser = commands.add_parser("cluster", help=help_, description=help_)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    sub = actions.add_parser("render", help="print the file by which another system runs the recipe")
    sub.add_argument("profile", choices=PROFILES, help="what to print: " + ", ".join(PROFILES), metavar="PROFILE")
    sub.add_argument("recipe", help="path of a recipe, as it is on the machines")
    sub.add_argument("--root", help="use this root (a folder or an fsspec URL) instead of the recipe's")
    sub.add_argument(
        "--deployment", metavar="FILE", help="YAML of a deployment; by default the recipe's cluster section"
    )
    sub.set_defaults(command=_render)
    sub = actions.add_parser("wait", help="wait until nodes have joined the cluster of RAY_ADDRESS")
    sub.add_argument("--nodes", type=arguments.count, required=True)
    sub.add_argument("--seconds", type=float, default=300.0)
    sub.set_defaults(command=_wait)
    sub = actions.add_parser(
        "leave", help="take this machine out of its cluster: what runs here is told, and waited for"
    )
    sub.add_argument("--seconds", type=float, help="how long it may take (120; with --spot what the cloud gives)")
    sub.add_argument("--spot", choices=("aws", "gcp"), help="wait until this cloud says that it takes the machine away")
    sub.set_defaults(command=_leave)


def _render(given: Any) -> int:
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
    from hyperloom.clusters import profiles
    from hyperloom.clusters.deployment import read
    from hyperloom.clusters.travel import refuse_bases_elsewhere
    from hyperloom.pipeline.host import terminal
    from hyperloom.pipeline.recipes import recipe

    loaded = recipe.load(given.recipe)  # and no more: the root may be reached by the machines alone
    if given.recipe.startswith(("/", "..")):
        raise loaded.error(("name",), "machines know the recipe by its path in the project. Next: cd to the project")
    refuse_bases_elsewhere(loaded)
    deployment = read(loaded.written, opening.cluster(loaded).deployment, given.deployment)
    of = loaded.recipe
    load = profiles.Workload.of(given.recipe, of.name, given.root or of.root, deployment, of.schedule)
    text = profiles.PROFILES[given.profile](load)
    reply: RenderReply = {"profile": given.profile, "recipe": given.recipe, "text": text}
    given.answer = reply
    terminal.write_program(text)
    return 0


def _wait(given: Any) -> int:
    from hyperloom.clusters import nodes

    reply: WaitReply = {"nodes": nodes.wait(given.nodes, given.seconds)}
    given.answer = reply
    return 0


def _leave(given: Any) -> int:
    from hyperloom.clusters import nodes, spot

    if given.spot:
        spot.wait(given.spot)
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        print(text, flush=True)

    nodes.leave(given.seconds or (spot.CLOUDS[given.spot].seconds if given.spot else 120.0), say)
    reply: LeaveReply = {"notes": notes}
    given.answer = reply
    return 0
