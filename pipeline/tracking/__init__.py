"""Tracking: MLflow as a view of a run's events, kept by a process of its own.

The driver starts `python -m hyperloom.pipeline.tracking --root ROOT --run RUN [--uri URI] [--experiment NAME]
--follow`, goes on with its work, and never waits for it. `tracker` carries events and remembers how far it
came, `mlflow_view` and `mlflow_model` write to MLflow (they alone import it), `store` says where. Importing this
package imports no MLflow.
"""
