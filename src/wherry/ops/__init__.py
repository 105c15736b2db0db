"""One operator, one file: schema, traits, estimate, reference, cases."""
