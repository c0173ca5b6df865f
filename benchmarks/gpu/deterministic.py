"""`python -m benchmarks.gpu.deterministic RUN_DIR`: trains a run by deterministic kernels."""

from __future__ import annotations

import os
import sys

import torch

from antioversmooth.training.__main__ import main

if __name__ == "__main__":
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # a kernel that has no deterministic form is a warning in the log
    torch.use_deterministic_algorithms(True, warn_only=True)
    sys.exit(main())
