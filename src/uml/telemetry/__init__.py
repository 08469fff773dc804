"""What the server tells of itself: figures for Prometheus and lines for people."""
