"""Scheduled runs. A schedule is a journal under the root, and every scheduler that calls `tick` only appends to it.

The journal alone decides: what is in it happened, once. So there may be any number of schedulers, each may die
anywhere, and none needs to know of the others.
"""
