"""Benchmarks: the latency protocol, cold start, throughput, and the roofline of the machine."""
