"""The merge methods: equations 2 and 3, those of mergekit with roles and heads, and Fisher's weights."""
