"""What a process says of itself: metrics for Prometheus and health checks for whoever supervises it."""
