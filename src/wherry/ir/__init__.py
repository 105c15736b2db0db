"""What a query is: types, expressions, their checking, their reference, their bytes."""
