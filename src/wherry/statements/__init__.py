"""SELECT as a way to write pipelines: sqlglot reads text, and clauses become operators."""
