"""Who may use the console: accounts as Kafka has them, passwords, the gate that every request passes, the audit log."""
