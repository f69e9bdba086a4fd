"""What this environment is and has: `taxlt info`."""
