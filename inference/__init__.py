"""The model at serving time: its contract, its bundle on disk, its ONNX session. Imports nothing of ours."""
