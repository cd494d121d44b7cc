"""What a checkpoint can do: behaviour, probability, mechanism; how they move over checkpoints; when they have settled."""
