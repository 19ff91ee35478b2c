"""Claims of papers, each a recipe that ends in a verdict, and the records of what came of them (`hyperloom papers`)."""
