"""The diagonal of the Fisher information of a trained model, for Fisher-weighted merging."""
