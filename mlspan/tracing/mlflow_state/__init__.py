"""The state that MLflow has active in this process: its run, its model, its prompts."""
