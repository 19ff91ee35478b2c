"""Hyperloom for Python users: what `import hyperloom` offers (the package itself lies in `pipeline/python`).

Like `pipeline.commands` this folder knows the other packages: here stages, engine and cluster are put together for
scripts and notebooks. Everything heavy is imported when a method needs it.
"""
