"""What the instrumentation costs, measured. See docs/performance.md for the method and the figures."""
