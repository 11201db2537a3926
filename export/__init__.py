"""Training side: encoder weights to an ONNX model package with a parity figure."""
