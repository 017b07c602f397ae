"""One ONNX file: export, session, parity and release manifest."""
