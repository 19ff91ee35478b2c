"""The engine: recipes, identity, storage, units of work and their commits. It knows nothing of labels or models.

What Python users import is `hyperloom` itself (`pipeline/python`, `pipeline.api`).
"""

__version__ = "0.1.0"
