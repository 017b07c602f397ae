"""Compression for any module and its ONNX file, with its proof."""
