"""`hyperloom experts`: the catalogue of named experts: which there are, what one is, and whether it works here."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    help_ = "the catalogue of experts that a recipe asks for by name: depth, classes, boxes, captions, speech, ..."
    parser = commands.add_parser("experts", help=help_, description=help_)
    parser.set_defaults(command=_list, task=None, licence=None)
    below = parser.add_subparsers(metavar="WHAT")
    listed = below.add_parser("list", help="all of them, or those of a task")
    listed.add_argument("--task", help="only this task: depth, semantic, detection, ...")
    listed.add_argument("--free", action="store_true", help="only those whose licence allows commerce")
    listed.set_defaults(command=_list)
    show = below.add_parser("show", help="one of them: what it tells, its licence, and what its line stands for")
    check = below.add_parser("check", help="fetch one and ask it for a made-up sample")
    for sub, command in ((show, _show), (check, _check)):
        sub.add_argument("name")
        sub.set_defaults(command=command)
    check.add_argument("--root", help="pin it in this root, so that its recipes plan without network")


def _list(given: Any) -> int:
    from hyperloom.stages.label.listing import listed

    return listed(given, getattr(given, "task", None), getattr(given, "free", False))


def _show(given: Any) -> int:
    from hyperloom.stages.label.listing import shown

    return shown(given, given.name)


def _check(given: Any) -> int:
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
    from hyperloom.stages.label.listing import checked

    return checked(given, given.name, given.root)
