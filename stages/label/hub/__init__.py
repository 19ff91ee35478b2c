"""The parts of the expert `huggingface`: loading a local model directory, maps, features, and pipelines."""
