"""What a person sets up before data flows: topics as the catalogue has them, and the registry's contents."""
