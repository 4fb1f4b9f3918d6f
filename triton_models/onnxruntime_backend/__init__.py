"""Stands in for Triton's native onnxruntime backend where only the Python backend is at hand."""
