"""The model at serving time: its contract, its bundle on disk, its ONNX session. Imports nothing of ours."""

from __future__ import annotations

import os

# onnxruntime 1.32 looks a vendor's server up and keeps a device id in the home folder unless told not to when it loads
os.putenv("ORT_DISABLE_TELEMETRY", "1")
