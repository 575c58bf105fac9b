"""What several distillation methods are made of."""
