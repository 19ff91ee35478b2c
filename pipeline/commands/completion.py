"""`hyperloom completion`: what a shell runs to complete commands, recipes and steps."""

from __future__ import annotations

from typing import Any

SHELLS = ("bash", "zsh", "fish", "powershell")
"""`hyperloom.pipeline.output.completion.SHELLS`, known without importing it."""


def add(commands: Any) -> None:
    help_ = 'print what makes a shell complete hyperloom: eval "$(hyperloom completion bash)"'
    sub = commands.add_parser("completion", help=help_, description=help_)
    sub.add_argument("shell", choices=SHELLS, nargs="?", default="bash", help="the shell (bash)")
    sub.set_defaults(command=_completion)


def _completion(given: Any) -> int:
    from hyperloom.pipeline.host import terminal
    from hyperloom.pipeline.output import completion

    text = completion.script(given.shell)
    given.answer = {"shell": given.shell, "script": text}
    terminal.write_program(text if text.endswith("\n") else text + "\n")
    return 0
