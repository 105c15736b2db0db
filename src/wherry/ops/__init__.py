"""One operator, one file: schema, needs, steps, estimate, reference. wherry.testing has cases."""
