"""The commands: one, or one family, a file.

Each file has `add(commands)`, which adds its parsers to argparse's sub-parsers and sets `command`, a function from the
parsed arguments to the exit code. `hyperloom.pipeline.cli` lists the files, in the order of `--help`.

This folder is the one part of the engine that knows the other packages: here stages, engine and cluster are put
together. What a command needs it imports when it runs, so that no other command pays for it, and none imports torch,
ray or mlflow for its answer alone.
"""
