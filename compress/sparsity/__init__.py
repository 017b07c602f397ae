"""One-shot pruning with calibration data: Hessians, masks, SparseGPT, refit, and a driver for any module."""
