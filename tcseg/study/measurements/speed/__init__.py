"""Measurements of time: latency, throughput, and the cost of a training step or a metric."""
