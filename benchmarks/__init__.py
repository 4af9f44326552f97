"""What the project costs, against a plain version of the same networks: see README.md here."""
