"""What the paper says: benchmarks, languages, variants, figures; recipes and tasks written from it."""
