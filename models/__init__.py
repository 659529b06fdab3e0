"""Weights: load, LoRA, train, score, generate. No Prefect and no MLflow in here."""
