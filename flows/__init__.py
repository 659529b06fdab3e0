"""The pipeline's table of contents, its deployments, its settings and the CLI."""
