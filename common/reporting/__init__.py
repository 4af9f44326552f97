"""One results directory: metrics, report, figures, page."""
