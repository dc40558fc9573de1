"""Measurements of time: latency, throughput, and what a training step or a metric costs."""
