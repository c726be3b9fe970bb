"""What instrumentation adds to the CPU time, the throughput and the latency of real processes."""
