"""Pictures of a distillation, for any run."""
