"""`hyperloom schema`: the JSON Schema of recipes."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    help_ = "print the JSON Schema of recipes, so that an editor completes them and a program can write them"
    sub = commands.add_parser("schema", help=help_, description=help_)
    sub.add_argument("recipe", nargs="?", help="a recipe whose own plug-ins (module:Class) are to be in it")
    sub.add_argument("--replies", action="store_true", help="the schema of what commands answer with --json instead")
    sub.set_defaults(command=_schema)


def _schema(given: Any) -> int:
    from hyperloom.pipeline import plain
    from hyperloom.pipeline.host import terminal
    from hyperloom.pipeline.output import replies
    from hyperloom.pipeline.recipes import recipe

    if given.replies:
        form = replies.schema()
    else:
        _register()
        form = schema(recipe.load(given.recipe) if given.recipe else None)
    terminal.write_program(plain.dumps(form, indent=1) + "\n")  # fields are called `password`, and none has a value
    return 0


def schema(loaded: Any = None) -> dict[str, Any]:
    """The JSON Schema of recipes; with the plug-ins that `loaded` has of its own, which its loading has imported."""
    _register()
    from hyperloom.clusters.spec import Cluster
    from hyperloom.pipeline.recipes import schema as schemas

    return schemas.schema({"cluster": Cluster})


def _register() -> None:
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
