"""Pods and a workload for ``armistice demo``: small, and shaped like what people run."""
