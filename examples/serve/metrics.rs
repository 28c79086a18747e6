//! Counts and times for Prometheus.
