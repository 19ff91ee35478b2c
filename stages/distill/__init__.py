"""A student learns from a trained model and is exported to ONNX."""
