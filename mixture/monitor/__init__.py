"""What a checkpoint can do: behaviour, probability, mechanism; how they move; when they have settled."""
